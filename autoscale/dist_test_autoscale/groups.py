"""What Compute Engine says of a managed instance group: the records between gce.py and the service."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ListedInstance:
    """An entry of a group's listing. `id` and `status` are empty until the machine exists.

    url: what the API takes to name it, with the zone it is in; empty for one that waits for its turn to be made.
    errors: codes of the last attempt at its `action`, such as QUOTA_EXCEEDED; a suffix _WITH_DETAILS is taken off.
    old_template: it was made from a template that the group no longer uses.
    """

    name: str
    id: str
    url: str
    action: str
    status: str
    errors: tuple[str, ...]
    old_template: bool


@dataclass(frozen=True, kw_only=True)
class GroupReading:
    """A group at the moment of the call. `autoscaler`: Google's own sizes it, so that we must keep our hands off."""

    name: str
    target: int
    autoscaler: bool
    instances: tuple[ListedInstance, ...]
