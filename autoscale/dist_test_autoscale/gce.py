"""Compute Engine's managed instance groups, through Google's own client: the only module that speaks to the cloud.

Every call ends by its deadline, in seconds of the given clock. Every change carries a request id, so that it may be
sent again without happening twice.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google.auth
import httplib2  # type: ignore[import-untyped]  # has none
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.oauth2 import service_account
from google_auth_httplib2 import AuthorizedHttp  # type: ignore[import-untyped]  # has none
from googleapiclient import discovery  # type: ignore[import-untyped]  # has none
from googleapiclient.errors import HttpError  # type: ignore[import-untyped]  # has none

from dist_test.errors import (
    CloudError,
    CloudForbidden,
    CloudQuotaExceeded,
    CloudRefused,
    CloudThrottled,
    CloudUnavailable,
    ConfigurationError,
    GroupAutoscaled,
    GroupNotFound,
)
from dist_test_autoscale.groups import GroupReading, ListedInstance
from dist_test_autoscale.settings import GroupSettings, Settings

logger = logging.getLogger(__name__)

SCOPE = "https://www.googleapis.com/auth/compute"
READ_SCOPE = "https://www.googleapis.com/auth/compute.readonly"
PAGE = 500  # compute v1, listManagedInstances: the most that maxResults may be
DELETES_AT_ONCE = 1000  # compute v1, deleteInstances: "a maximum of 1000 instances with this method per request"
CALL_SECONDS = 15.0  # Compute Engine answers within two; what takes this long is lost
PAUSES = (0.5, 1.5)  # before the second and the third try of a call
OPERATION_SECONDS = 5.0  # operations of groups end when the machines are scheduled, not when they are there
OPERATION_PAUSE = 0.5
_AGAIN = frozenset({408, 500, 502, 503, 504})
_THROTTLED = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
_QUOTA = frozenset({"quotaExceeded", "QUOTA_EXCEEDED"})
_AUTOSCALED = "autoscaled"  # "Resizing of autoscaled … managed instance groups is not allowed", with status 412

InstanceKey = tuple[str, str]
"""Name and id: a new machine may bear an old name."""

Observer = Callable[[str, str, float], None]
"""Told of each call: method, status (or "error"), seconds."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The collections of the API that hold a group and its operations, and the parameters that lead there."""

    managers: Any
    operations: Any
    where: Mapping[str, str]
    group: GroupSettings
    kind: str

    @property
    def manager(self) -> Mapping[str, str]:
        return {**self.where, "instanceGroupManager": self.group.name}

    def __str__(self) -> str:
        place = self.where.get("zone") or self.where.get("region")
        return f"group {self.group.name} in {place} of project {self.where['project']}"


class ComputeFleet:
    """The groups of one project. Threads that last may share it: each has its own connections until close()."""

    def __init__(
        self,
        *,
        project: str,
        credentials: Credentials,
        endpoint: str = "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        observe: Observer | None = None,
    ) -> None:
        """endpoint: with the path /compute/v1/, as the settings have it; empty for Google's own. Asks nobody yet."""
        self._project = project
        self._credentials = credentials
        self._clock = clock
        self._sleep = sleep
        self._observe = observe or _unobserved
        self._own = threading.local()
        self._transports: list[Any] = []
        options = {"api_endpoint": endpoint} if endpoint else None
        # This Http is never used: one that several threads share can hang them all.
        self._compute = discovery.build(
            "compute", "v1", http=httplib2.Http(), cache_discovery=False, static_discovery=True, client_options=options
        )

    def close(self) -> None:
        """Close all connections. No thread may be calling."""
        for transport in self._transports:
            transport.close()

    def read(self, group: GroupSettings, deadline: float) -> GroupReading:
        """The group's target and all its instances. Raises CloudError."""
        place = self._place(group)
        manager = self._get(place, deadline)
        entries = list(self._list(place, deadline))
        current = _templates(manager)
        return GroupReading(
            name=group.name,
            target=manager["targetSize"],
            autoscaler=bool(manager.get("status", {}).get("autoscaler")),
            instances=tuple(_instance(entry, current) for entry in entries),
        )

    def grow(self, group: GroupSettings, count: int, request_id: str, deadline: float) -> int:
        """Raise the group's target by `count`, from what it is now, but not above its max; give the slaves bought.

        The same request id again grows nothing more. Raises CloudError.
        """
        place = self._place(group)
        target = self._get(place, deadline)["targetSize"]
        # Between the decision and now an operator may have changed it. Ours is the difference; it is never lowered.
        size = min(target + count, group.max)
        if size <= target:
            return 0
        self._raise_target(place, target, size, request_id, deadline)
        return int(size - target)

    def delete(
        self, group: GroupSettings, instances: Collection[InstanceKey], request_id: str, deadline: float
    ) -> tuple[InstanceKey, ...]:
        """Delete these very instances and lower the target by as many; give those that were still there.

        A machine that has taken the name of one since is left alone. Raises CloudError.
        """
        place = self._place(group)
        wanted = frozenset(instances)
        listed = [_instance(entry, frozenset()) for entry in self._list(place, deadline)]
        found = [instance for instance in listed if (instance.name, instance.id) in wanted]
        for number, names in enumerate(_batches(found)):
            body = {"instances": names, "skipInstancesOnValidationError": True}
            own_id = str(uuid.uuid5(uuid.UUID(request_id), str(number)))
            request = place.managers.deleteInstances(body=body, requestId=own_id, **place.manager)
            self._change(place, "deleteInstances", request, deadline)
        return tuple((instance.name, instance.id) for instance in found)

    def _raise_target(self, place: _Place, target: int, size: int, request_id: str, deadline: float) -> None:
        """Set the target; again only while it is what it was: an old size would lower one that was raised since."""
        request = place.managers.resize(size=size, requestId=request_id, **place.manager)
        for pause in (*PAUSES, None):
            try:
                return self._change(place, "resize", request, deadline, pauses=())
            except CloudUnavailable:
                if pause is None or self._clock() + pause >= deadline:
                    raise
                self._sleep(pause)
                now = self._get(place, deadline)["targetSize"]
                if now >= size:
                    return None  # it was done, and the answer was lost
                if now != target:
                    raise
        return None

    def _place(self, group: GroupSettings) -> _Place:
        compute, project = self._compute, self._project
        if group.region is not None:
            return _Place(
                managers=compute.regionInstanceGroupManagers(),
                operations=compute.regionOperations(),
                where={"project": project, "region": group.region},
                group=group,
                kind="regionInstanceGroupManagers",
            )
        return _Place(
            managers=compute.instanceGroupManagers(),
            operations=compute.zoneOperations(),
            where={"project": project, "zone": group.zone or ""},
            group=group,
            kind="instanceGroupManagers",
        )

    def _get(self, place: _Place, deadline: float) -> Any:
        return self._call(place, "get", place.managers.get(**place.manager), deadline)

    def _list(self, place: _Place, deadline: float) -> Iterator[Any]:
        """Every page; a group that does not page may hand out a token all the same, so a known one ends it."""
        request = place.managers.listManagedInstances(maxResults=PAGE, **place.manager)
        tokens: set[str] = set()
        while request is not None:
            answer = self._call(place, "listManagedInstances", request, deadline)
            yield from answer.get("managedInstances", ())
            token = answer.get("nextPageToken", "")
            if token in tokens:
                return
            tokens.add(token)
            request = place.managers.listManagedInstances_next(request, answer)

    def _change(
        self, place: _Place, method: str, request: Any, deadline: float, *, pauses: Sequence[float] = PAUSES
    ) -> None:
        operation = self._call(place, method, request, deadline, pauses)
        _refuse_failed(operation, place, method)
        self._await(place, method, operation["name"], min(deadline, self._clock() + OPERATION_SECONDS))

    def _await(self, place: _Place, method: str, name: str, deadline: float) -> None:
        """See whether the operation failed. Not knowing is no failure: the next reading tells what is true."""
        while self._clock() < deadline:
            request = place.operations.wait(operation=name, **place.where)
            try:
                operation = self._call(place, "wait", request, deadline)
            except CloudError as exc:
                logger.debug("%s of %s goes unwatched: %s", method, place, exc)
                return
            _refuse_failed(operation, place, method)
            if operation["status"] == "DONE":
                return
            self._sleep(OPERATION_PAUSE)

    def _call(self, place: _Place, method: str, request: Any, deadline: float, pauses: Sequence[float] = PAUSES) -> Any:
        """Send a request until it is answered, again after each of the pauses. Raises CloudError."""
        name = f"{place.kind}.{method}"
        for pause in (*pauses, None):
            try:
                return self._send(name, request, deadline)
            except (HttpError, httplib2.HttpLib2Error, GoogleAuthError, OSError) as exc:
                error = _ours(exc, f"{method} of {place}")
                if pause is None or not isinstance(error, CloudUnavailable) or self._clock() + pause >= deadline:
                    raise error from exc
                logger.debug("Trying again: %s", error)
                self._sleep(pause)
        raise AssertionError  # unreachable: the last try returns or raises

    def _send(self, name: str, request: Any, deadline: float) -> Any:
        left = min(CALL_SECONDS, deadline - self._clock())
        if left <= 0:
            raise TimeoutError("no time is left for it")
        began, code = time.monotonic(), "error"
        try:
            answer = request.execute(http=self._http(left), num_retries=0)
            code = "200"
            return answer
        except HttpError as exc:
            code = str(exc.status_code)
            raise
        finally:
            self._observe(name, code, time.monotonic() - began)

    def _http(self, timeout_seconds: float) -> Any:
        """This thread's transport, which gives up after so many seconds of silence."""
        if not hasattr(self._own, "http"):
            self._own.http = AuthorizedHttp(self._credentials, http=httplib2.Http())
            self._transports.append(self._own.http)
        http = self._own.http
        http.http.timeout = timeout_seconds
        # httplib2 reads `timeout` when it connects; connections that it kept have their own.
        for connection in http.http.connections.values():
            connection.timeout = timeout_seconds
            if connection.sock is not None:
                connection.sock.settimeout(timeout_seconds)
        return http


def compute_fleet(settings: Settings, *, observe: Observer | None = None, read_only: bool = False) -> ComputeFleet:
    """The fleet that the settings tell of. Raises ConfigurationError where there is no way to log in."""
    return ComputeFleet(
        project=settings.project,
        credentials=_credentials(settings.credentials, READ_SCOPE if read_only else SCOPE),
        endpoint=settings.api_endpoint,
        observe=observe,
    )


def _credentials(source: str, scope: str) -> Credentials:
    kind, _, path = source.partition(":")
    try:
        if kind == "anonymous":
            return AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth types only a part
        if kind == "file":
            found = service_account.Credentials.from_service_account_file(path, scopes=[scope])  # type: ignore[no-untyped-call]  # as above
        else:
            found, _ = google.auth.default(scopes=[scope])
    except (GoogleAuthError, OSError, ValueError) as exc:
        raise ConfigurationError(f"autoscale.credentials is {source}, with which nobody can log in: {exc}") from exc
    return found  # type: ignore[no-any-return]  # as above


def _unobserved(method: str, code: str, seconds: float) -> None:
    """Count nothing."""


def _templates(manager: Mapping[str, Any]) -> frozenset[str]:
    """The templates that the group makes instances from: several while a new one is tried out on a part of it."""
    versions = [version.get("instanceTemplate") for version in manager.get("versions", ())]
    return frozenset(filter(None, versions or [manager.get("instanceTemplate")]))


def _instance(entry: Mapping[str, Any], current: Collection[str]) -> ListedInstance:
    template = entry.get("version", {}).get("instanceTemplate")
    errors = entry.get("lastAttempt", {}).get("errors", {}).get("errors", ())
    return ListedInstance(
        name=entry["name"],
        id=entry.get("id", ""),
        url=entry.get("instance", ""),
        action=entry.get("currentAction", "NONE"),
        status=entry.get("instanceStatus", ""),
        errors=tuple(error.get("code", "").removesuffix("_WITH_DETAILS") for error in errors),
        old_template=bool(current and template and template not in current),
    )


def _batches(instances: Sequence[ListedInstance]) -> Iterator[list[str]]:
    """Names for the API: those with a place and those that wait for one may not be in one request."""
    placed = [_partial_url(instance.url) for instance in instances if instance.url]
    queued = [instance.name for instance in instances if not instance.url]
    for names in (placed, queued):
        for start in range(0, len(names), DELETES_AT_ONCE):
            yield names[start : start + DELETES_AT_ONCE]


def _partial_url(url: str) -> str:
    """zones/ZONE/instances/NAME: the form that does not depend on the host that the API is reached by."""
    return f"zones/{url.partition('/zones/')[2]}"


def _refuse_failed(operation: Mapping[str, Any], place: _Place, method: str) -> None:
    """An operation that failed is answered with 200 all the same."""
    errors = operation.get("error", {}).get("errors", ())
    if not errors:
        return
    text = "; ".join(f"{error.get('code')}: {error.get('message')}" for error in errors)
    kind = CloudQuotaExceeded if any(error.get("code") in _QUOTA for error in errors) else CloudRefused
    raise kind(f"{method} of {place} failed: {text}")


def _ours(exc: Exception, what: str) -> CloudError:
    if isinstance(exc, HttpError):
        return _of_status(exc.status_code, _reason(exc), f"{what}: {exc.status_code} {exc.reason}")
    if isinstance(exc, GoogleAuthError) and not _may_log_in_later(exc):
        return CloudForbidden(f"{what}: no login: {exc}")
    return CloudUnavailable(f"{what}: no answer: {exc or type(exc).__name__}")


def _may_log_in_later(exc: GoogleAuthError) -> bool:
    # A metadata server that is away makes a RefreshError that does not call itself retryable.
    return exc.retryable or isinstance(exc, TransportError) or isinstance(exc.__cause__, TransportError)


def _of_status(status: int, reason: str, text: str) -> CloudError:
    if status == 429 or reason in _THROTTLED:
        return CloudThrottled(text)
    if status == 403 and reason in _QUOTA:
        return CloudQuotaExceeded(text)
    if status in (401, 403):
        return CloudForbidden(text)
    if status == 404:
        return GroupNotFound(f"{text}; correct its name and place in the configuration, or create it")
    if status == 412 and _AUTOSCALED in text.lower():
        return GroupAutoscaled(f"{text}; detach the autoscaler, or take the group out of the configuration")
    return CloudUnavailable(text) if status in _AGAIN else CloudRefused(text)


def _reason(exc: HttpError) -> str:
    """The reason for machines; empty where a proxy answered with a page."""
    try:
        return str(json.loads(exc.content)["error"]["errors"][0]["reason"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
