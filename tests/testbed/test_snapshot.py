"""What counts as a difference between two hosts."""

from tests.testbed.snapshot import Snapshot, differences

_FILE = "-rw-r--r-- root:root 0123456789abcdef"


def snapshot(**facts: str) -> Snapshot:
    return Snapshot.from_facts({"path /etc/hosts": _FILE} | facts)


def test_a_host_does_not_differ_from_itself() -> None:
    assert differences(snapshot(), snapshot()) == []


def test_a_fact_that_only_one_has_is_told_with_the_side_that_has_it() -> None:
    more = snapshot(**{"package nginx": "1.22 manual"})
    assert differences(snapshot(), more) == ["only after: package nginx: 1.22 manual"]
    assert differences(more, snapshot()) == ["only before: package nginx: 1.22 manual"]


def test_of_a_long_value_only_the_lines_that_differ_are_told() -> None:
    before, after = (snapshot(**{"nft ruleset": f"table inet a\n{line}\n"}) for line in ("accept", "drop"))
    assert differences(before, after) == ["nft ruleset:\n    - accept\n    + drop"]


def test_what_each_host_makes_for_itself_is_no_difference() -> None:
    before, after = (snapshot(**{"path /etc/machine-id": f"-r--r--r-- root:root {sha}"}) for sha in "ab")
    assert differences(before, after) == []


def test_a_key_of_the_hosts_own_may_differ_in_content_but_not_in_mode() -> None:
    one, other, readable = (
        snapshot(**{"path /etc/dist_test/tls/key.pem": value})
        for value in ("-rw------- root:root aa", "-rw------- root:root bb", "-rw-r--r-- root:root aa")
    )
    assert differences(one, other) == []
    assert len(differences(one, readable)) == 1


def test_a_service_older_than_its_configuration_is_told() -> None:
    stale = snapshot(**{"stale nginx.service": "older than /etc/nginx/nginx.conf"})
    assert stale.stale_services == ["nginx.service is older than /etc/nginx/nginx.conf"]
    assert snapshot().stale_services == []


def test_a_failed_unit_is_told_but_not_one_that_fails_now_and_then_here() -> None:
    units = {"unit a.service": "failed failed", "unit systemd-tmpfiles-setup-dev.service": "failed failed"}
    assert snapshot(**units).failed_units == ["unit a.service"]
