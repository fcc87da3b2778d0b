"""When the command `service` of the role base restarts a unit; tests/testbed has it do so."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from roles.base.files.service import (
    PROPERTIES,
    Decision,
    Service,
    ServiceError,
    Systemd,
    Unit,
    changed_at,
    decide,
    drop_ins_of,
)

STARTED = datetime(2026, 11, 24, 12, tzinfo=UTC)
BEFORE, AFTER = STARTED - timedelta(seconds=1), STARTED + timedelta(milliseconds=1)
FILE = Path("/etc/dist_test/master.cnf")
RUNNING = Unit(
    name="dist-test-master.service",
    load="loaded",
    active="active",
    enablement="enabled",
    is_outdated=False,
    files=(),
    started=STARTED,
    loaded=STARTED,
    is_skipped=False,
    has_job=False,
)
STOPPED = replace(RUNNING, active="inactive", started=None, loaded=None)


@pytest.mark.parametrize(
    ("unit", "changed", "says"),
    [
        pytest.param(RUNNING, BEFORE, "unchanged", id="running with what its file says"),
        pytest.param(
            RUNNING, AFTER, f"changed: restarted because {FILE} changed after it was started", id="older than its file"
        ),
        pytest.param(RUNNING, None, f"changed: restarted because {FILE} is not there yet", id="file to come"),
        pytest.param(
            replace(RUNNING, is_outdated=True),
            BEFORE,
            "changed: restarted because its unit file or a drop-in changed",
            id="unit file not read yet",
        ),
        pytest.param(replace(RUNNING, active="reloading"), BEFORE, "unchanged", id="reloading"),
        pytest.param(replace(RUNNING, active="activating"), BEFORE, "unchanged", id="starting with what its file says"),
        pytest.param(
            replace(RUNNING, active="activating"),
            AFTER,
            f"changed: restarted because {FILE} changed after it was started",
            id="starting, older than its file",
        ),
        pytest.param(STOPPED, BEFORE, "changed: started, as it was inactive", id="stopped"),
        pytest.param(replace(STOPPED, active="failed"), BEFORE, "changed: started, as it was failed", id="failed"),
        pytest.param(replace(STOPPED, is_skipped=True), AFTER, "unchanged", id="its condition does not hold"),
        pytest.param(
            replace(STOPPED, is_skipped=True, is_outdated=True),
            AFTER,
            "changed: started, as it was inactive",
            id="its condition may hold now",
        ),
        pytest.param(replace(RUNNING, enablement="disabled"), BEFORE, "changed: enabled", id="not enabled"),
        pytest.param(
            replace(RUNNING, enablement="enabled-runtime"), BEFORE, "changed: enabled", id="until reboot only"
        ),
        pytest.param(replace(RUNNING, enablement="static"), BEFORE, "unchanged", id="nothing to enable"),
        pytest.param(
            replace(STOPPED, enablement="disabled"),
            BEFORE,
            "changed: enabled, started, as it was inactive",
            id="installed a moment ago",
        ),
        pytest.param(replace(RUNNING, started=None), AFTER, "unchanged", id="nobody knows when it was started"),
    ],
)
def test_state_decides(unit: Unit, changed: datetime | None, says: str) -> None:
    assert str(decide(unit, {FILE: changed})) == says


@pytest.mark.parametrize(
    ("unit", "changed", "says"),
    [
        pytest.param(RUNNING, BEFORE, "unchanged", id="has read it"),
        pytest.param(RUNNING, AFTER, f"changed: reloaded because {FILE} changed after it was read", id="to be read"),
        pytest.param(replace(RUNNING, loaded=AFTER), AFTER, "unchanged", id="reloaded since"),
        pytest.param(
            replace(RUNNING, loaded=None),
            AFTER,
            f"changed: reloaded because {FILE} changed after it was read",
            id="its last reload failed",
        ),
        pytest.param(
            replace(RUNNING, is_outdated=True),
            AFTER,
            "changed: restarted because its unit file or a drop-in changed",
            id="its unit changed as well",
        ),
        pytest.param(
            replace(RUNNING, active="activating"),
            AFTER,
            f"changed: restarted because {FILE} changed after it was started",
            id="starting",
        ),
        pytest.param(STOPPED, AFTER, "changed: started, as it was inactive", id="stopped"),
    ],
)
def test_a_unit_that_can_be_reloaded_is(unit: Unit, changed: datetime | None, says: str) -> None:
    assert str(decide(unit, {}, {FILE: changed})) == says


def test_a_unit_file_restarts_also_a_unit_that_can_be_reloaded() -> None:
    decision = decide(replace(RUNNING, loaded=AFTER), {Path("/etc/systemd/system/nginx.service.d/a.conf"): AFTER}, {})
    assert (decision.restart, decision.reload) == (True, False)


def test_a_reload_that_failed_has_read_nothing() -> None:
    shown = dict.fromkeys(PROPERTIES, "") | {
        "StateChangeTimestamp": "Tue 2026-11-24 12:00:01.000000 UTC",
        "ReloadResult": "exit-code",
    }
    assert Unit.from_properties("nginx.service", shown, []).loaded is None


def test_a_failed_unit_may_start_again_although_it_hit_its_limit() -> None:
    assert decide(replace(STOPPED, active="failed"), {}).reset_failed
    assert not decide(STOPPED, {}).reset_failed


def test_a_masked_unit_is_left_to_the_operator() -> None:
    with pytest.raises(ServiceError, match="systemctl unmask dist-test-master"):
        decide(replace(STOPPED, load="masked"), {})


def test_what_systemd_shows_is_read() -> None:
    shown = {
        "LoadState": "loaded",
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        "FragmentPath": "/lib/systemd/system/nginx.service",
        "DropInPaths": "/etc/systemd/system/nginx.service.d/a.conf /etc/systemd/system/nginx.service.d/b.conf",
        "InactiveExitTimestamp": "Tue 2026-11-24 12:00:00.000500 UTC",
        "ConditionTimestamp": "Tue 2026-11-24 12:00:00.000400 UTC",
        "Job": "",
        "ConditionResult": "yes",
        "StateChangeTimestamp": "Tue 2026-11-24 12:00:01.000000 UTC",
        "ReloadResult": "success",
    }
    assert Unit.from_properties(
        "nginx.service", shown, [Path("/etc/systemd/system/nginx.service.d/b.conf")]
    ) == replace(
        RUNNING,
        name="nginx.service",
        started=STARTED + timedelta(microseconds=500),
        loaded=STARTED + timedelta(seconds=1),
        files=(
            Path("/lib/systemd/system/nginx.service"),
            Path("/etc/systemd/system/nginx.service.d/a.conf"),
            Path("/etc/systemd/system/nginx.service.d/b.conf"),
        ),
    )


def test_of_a_unit_that_was_never_tried_little_is_known() -> None:
    shown = {
        "LoadState": "loaded",
        "ActiveState": "inactive",
        "UnitFileState": "disabled",
        "NeedDaemonReload": "no",
        "FragmentPath": "/lib/systemd/system/nginx.service",
        "DropInPaths": "",
        "InactiveExitTimestamp": "",
        "ConditionTimestamp": "",
        "Job": "",
        "ConditionResult": "no",
        "StateChangeTimestamp": "",
        "ReloadResult": "success",
    }
    unit = Unit.from_properties("nginx.service", shown, [])
    assert (unit.started, unit.is_skipped, unit.is_outdated) == (None, False, False)
    assert Unit.from_properties(
        "nginx.service", shown, [Path("/etc/systemd/system/nginx.service.d/new.conf")]
    ).is_outdated


def test_a_drop_in_that_is_switched_off_is_none(tmp_path: Path) -> None:
    directory = tmp_path / "nginx.service.d"
    directory.mkdir()
    (directory / "a.conf").touch()
    (directory / "a.conf~").touch()
    (directory / "b.conf").symlink_to("/dev/null")
    assert drop_ins_of("nginx.service", tmp_path) == [directory / "a.conf"]
    assert drop_ins_of("cron.service", tmp_path) == []


def test_of_a_link_the_link_itself_counts(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to("releases/that-is-not-there")
    assert changed_at(link) is not None
    assert changed_at(tmp_path / "other") is None


class FakeSystemd(Systemd):
    """A unit that goes through the given states, one each time that somebody looks."""

    def __init__(self, states: Sequence[Unit]) -> None:
        self._states = iter(states)
        self.applied: list[Decision] = []

    def read(self, name: str) -> Unit:
        return next(self._states)

    def apply(self, name: str, decision: Decision) -> None:
        self.applied.append(decision)

    def journal(self, name: str) -> str:
        return "Nov 24 12:00:01 no database\n"


def service(systemd: Systemd, clock: Iterator[float] | None = None) -> Service:
    ticks = clock or iter(range(1000))
    return Service(systemd, clock=lambda: next(ticks), sleep=lambda _: None)


def test_a_slow_start_is_awaited() -> None:
    systemd = FakeSystemd([STOPPED, replace(RUNNING, active="activating"), RUNNING])
    assert service(systemd).ensure("dist-test-master.service", []).start
    assert len(systemd.applied) == 1


def test_a_restart_waits_for_a_slave_that_drains_first() -> None:
    draining = replace(RUNNING, active="deactivating", has_job=True)
    systemd = FakeSystemd([STOPPED, *[draining] * 9, replace(STOPPED, has_job=True), RUNNING])
    service(systemd, clock=iter([0.0, *range(100, 2100, 200)])).ensure("dist-test-slave.service", [])


def test_a_unit_that_stops_for_good_is_told_at_once() -> None:
    systemd = FakeSystemd([STOPPED, replace(RUNNING, active="deactivating")])
    with pytest.raises(ServiceError, match="is deactivating, not active"):
        service(systemd).ensure("dist-test-slave.service", [])


def test_a_unit_that_runs_well_is_not_touched() -> None:
    systemd = FakeSystemd([RUNNING, RUNNING])
    assert str(service(systemd).ensure("dist-test-master.service", [])) == "unchanged"
    assert systemd.applied == []


def test_a_start_that_takes_too_long_is_told_with_the_journal() -> None:
    systemd = FakeSystemd([STOPPED, *[replace(RUNNING, active="activating")] * 3])
    with pytest.raises(ServiceError, match="is activating, not active:\nNov 24 12:00:01 no database"):
        service(systemd, clock=iter([0.0, 1.0, 59.0, 61.0])).ensure("dist-test-master.service", [])


def test_a_start_that_failed_is_told_at_once() -> None:
    systemd = FakeSystemd([STOPPED, replace(STOPPED, active="failed")])
    with pytest.raises(ServiceError, match="is failed"):
        service(systemd).ensure("dist-test-master.service", [])


def test_a_check_changes_nothing_and_minds_no_file_that_is_missing(tmp_path: Path) -> None:
    systemd = FakeSystemd([RUNNING])
    decision = service(systemd).check("dist-test-master.service", [tmp_path / "master.cnf"])
    assert str(decision).endswith("master.cnf is not there yet")
    assert systemd.applied == []


def test_a_missing_file_stops_the_change(tmp_path: Path) -> None:
    systemd = FakeSystemd([])
    with pytest.raises(ServiceError, match=r"master\.cnf is not there"):
        service(systemd).ensure("dist-test-master.service", [tmp_path / "master.cnf"])


def test_files_of_the_unit_count_without_being_named(tmp_path: Path) -> None:
    drop_in = tmp_path / "dist_test.conf"
    drop_in.write_text("[Service]\n")
    systemd = FakeSystemd([replace(RUNNING, files=(drop_in,), started=datetime.now(UTC) - timedelta(hours=1))])
    assert service(systemd).check("dist-test-master.service", []).restart
