"""The configuration file: what the defaults are, and every mistake named at once."""

from pathlib import Path
from typing import Any

import pytest

from dist_test.errors import ConfigurationError
from dist_test_autoscale.catalog import CATALOG, Key, default_value
from dist_test_autoscale.settings import (
    GroupSettings,
    PolicySettings,
    ScaleInSettings,
    ScaleOutSettings,
    Settings,
    SizeSettings,
    load_settings,
    policy_document,
    policy_settings,
)

LEAST = """
[autoscale]
project = "my-project"

[[autoscale.group]]
name = "spot-b"
zone = "us-central1-b"
"""

WHOLE = """
[autoscale]
interval_s = 5
stale_s = 30
dry_run = true
listen = "0.0.0.0:9110"
project = "example.com:my-project"
api_endpoint = "http://127.0.0.1:8080"
api_version = "v1"
credentials = "file:/etc/key.json"

[autoscale.queue]
host = "queue"

[autoscale.mysql]
host = "db"
user = "autoscale"
password_file = "/run/credentials/mysql"
db = "dist_test"

[autoscale.size]
slots_per_slave = 2
min_total = 1
max_total = 50
min_idle = 1
target_drain_s = 300
wait_value = 0
default_task_s = 10.5

[autoscale.out]
max_per_min = 10
boot_s_default = 45
boot_timeout_s = 300
failed_after_s = 10

[autoscale.in]
stabilize_s = 60
idle_grace_s = 30
min_uptime_s = 0
max_per_min = 5
max_fraction = 1
drain_ack_timeout_s = 60
queue_restart_hold_s = 30

[[autoscale.group]]
name = "spot-b"
zone = "us-central1-b"
spot = true
max = 40

[[autoscale.group]]
name = "sure"
region = "us-central1"
priority = 1
min = 1
max = 10
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "autoscale.toml"


def load(path: Path, text: str) -> Settings:
    path.write_text(text)
    return load_settings(path)


def problems(path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(path, text)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_the_defaults_are_those_of_the_design(path: Path) -> None:
    assert load(path, LEAST) == Settings(
        path=path,
        interval_s=10,
        dry_run=False,
        listen="127.0.0.1:9109",
        project="my-project",
        api_endpoint="",
        api_version="v1",
        credentials="adc",
        queue=None,
        mysql=None,
        policy=PolicySettings(
            stale_s=60,
            size=SizeSettings(
                slots_per_slave=1,
                min_total=0,
                max_total=100,
                min_idle=0,
                target_drain_s=600,
                wait_value=20,
                default_task_s=60,
            ),
            scale_out=ScaleOutSettings(max_per_min=100, boot_s_default=90, boot_timeout_s=600, failed_after_s=45),
            scale_in=ScaleInSettings(
                stabilize_s=300,
                idle_grace_s=None,
                min_uptime_s=60,
                max_per_min=40,
                max_fraction=0.5,
                drain_ack_timeout_s=120,
                queue_restart_hold_s=300,
            ),
            groups=(
                GroupSettings(name="spot-b", zone="us-central1-b", region=None, priority=0, spot=False, min=0, max=100),
            ),
        ),
    )


def test_a_whole_file_is_understood(path: Path) -> None:
    settings = load(path, WHOLE)
    assert (settings.interval_s, settings.dry_run, settings.credentials) == (5, True, "file:/etc/key.json")
    assert settings.queue is not None
    assert (settings.queue.port, settings.queue.tube) == (11300, "default")
    assert settings.mysql is not None
    assert (settings.mysql.port, settings.mysql.password_file) == (3306, "/run/credentials/mysql")
    assert settings.policy.scale_in.grace_s(boot_s=90) == 30
    assert [(group.name, group.zone, group.region) for group in settings.policy.groups] == [
        ("spot-b", "us-central1-b", None),
        ("sure", None, "us-central1"),
    ]


def test_the_deciding_part_survives_a_snapshot_file(path: Path) -> None:
    for text in (LEAST, WHOLE):
        policy = load(path, text).policy
        assert policy_settings(policy_document(policy), where="") == policy


@pytest.mark.parametrize(("boot_s", "grace_s"), [(30, 60), (90, 90)])
def test_by_itself_the_grace_is_what_a_boot_takes(path: Path, boot_s: float, grace_s: float) -> None:
    assert load(path, LEAST).policy.scale_in.grace_s(boot_s) == grace_s


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/compute/v1/"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/compute/v1/"),
        ("http://127.0.0.1:8080/compute/v1", "http://127.0.0.1:8080/compute/v1/"),
        ("http://proxy/google/compute/v1/", "http://proxy/google/compute/v1/"),
    ],
)
def test_an_endpoint_gets_the_path_that_the_library_leaves_to_it(path: Path, given: str, used: str) -> None:
    assert load(path, LEAST.replace("[autoscale]", f'[autoscale]\napi_endpoint = "{given}"')).api_endpoint == used


def with_table(lines: str) -> str:
    return f"{LEAST}\n{lines}\n"


def with_key(line: str) -> str:
    return LEAST.replace("[autoscale]", f"[autoscale]\n{line}")


def with_group(line: str) -> str:
    return LEAST.rstrip() + f"\n{line}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            with_table("[autoscale.size]\ntarget_drain = 5"),
            "autoscale.size.target_drain is not known; did you mean target_drain_s?",
            id="an unknown key",
        ),
        pytest.param(
            with_table("[autoscale.sizes]"), "autoscale.sizes is not known; did you mean size?", id="an unknown table"
        ),
        pytest.param("[autoscaler]\n" + LEAST, "autoscaler is not known; did you mean autoscale?", id="a second root"),
        pytest.param(
            with_group("colour = 1"),
            "autoscale.group[0].colour is not known; known are name, zone, region, priority, spot, min, max",
            id="an unknown key of a group",
        ),
        pytest.param(
            with_key("interval_s = 1"), "autoscale.interval_s is 1: give a number from 2 to 3600", id="too often"
        ),
        pytest.param(
            with_key('dry_run = "no"'),
            "autoscale.dry_run is 'no': give true or false, without quotes",
            id="a text for a truth",
        ),
        pytest.param(
            LEAST.replace("my-project", "My Project"),
            "autoscale.project is 'My Project': Compute Engine takes only names such as my-project",
            id="a project that the API refuses",
        ),
        pytest.param(
            LEAST.replace('project = "my-project"', ""),
            "autoscale.project is not set: project of the instance groups.",
            id="no project",
        ),
        pytest.param(
            with_key('api_version = "beta"'), "autoscale.api_version is 'beta': only v1 is supported", id="beta"
        ),
        pytest.param(
            with_key('credentials = "key.json"'),
            "autoscale.credentials is 'key.json': give adc, anonymous or file:/absolute/path",
            id="credentials by a bare name",
        ),
        pytest.param(
            with_key('api_endpoint = "127.0.0.1:80"'),
            "autoscale.api_endpoint is '127.0.0.1:80': give an address such as http://127.0.0.1:8080/compute/v1/",
            id="an endpoint without a scheme",
        ),
        pytest.param(
            with_table('[autoscale.mysql]\nhost = "db"\nuser = "a"\ndb = "d"'),
            "autoscale.mysql.password_file is not set: file that holds the account's password.",
            id="half a database",
        ),
        pytest.param(
            with_table('[autoscale.in]\nidle_grace_s = "soon"'),
            "autoscale.in.idle_grace_s is 'soon': give \"auto\" or a number of seconds from 0 to 604800",
            id="a grace in words",
        ),
        pytest.param(
            with_table("[autoscale.in]\nmax_fraction = 0"),
            "autoscale.in.max_fraction is 0: give a number above 0, at most 1",
            id="a fraction of nothing",
        ),
        pytest.param(
            '[autoscale]\nproject = "p"\ngroup = 3',
            "autoscale.group is 3: give a list of tables, each under [[autoscale.group]]",
            id="a group that is none",
        ),
        pytest.param(with_key("size = 3"), "autoscale.size is 3: give a table", id="a table that is none"),
    ],
)
def test_a_bad_key_is_refused_by_name(path: Path, text: str, problem: str) -> None:
    assert problems(path, text) == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            with_table("[autoscale.size]\ntarget_drain_s = 90"),
            "autoscale.size.target_drain_s is 90, no more than out.boot_s_default, 90: raise it",
            id="slaves that would come too late",
        ),
        pytest.param(
            with_table("[autoscale.size]\nmin_total = 9\nmax_total = 8"),
            "autoscale.size.min_total is 9, more than size.max_total, 8: lower it",
            id="more at least than at most",
        ),
        pytest.param(
            with_group("min = 9\nmax = 8"),
            "autoscale.group[0].min (spot-b) is 9, more than its max, 8: lower it",
            id="the same of a group",
        ),
        pytest.param(
            with_group("max = 8\n[autoscale.size]\nmin_total = 9"),
            "autoscale.size.min_total is 9, but the groups' max add up to 8: lower it",
            id="groups too small",
        ),
        pytest.param(
            with_group("min = 9\n[autoscale.size]\nmax_total = 8"),
            "autoscale.size.max_total is 8, but the groups' min add up to 9: raise it",
            id="groups too large",
        ),
        pytest.param(
            '[autoscale]\nproject = "p"\n',
            "autoscale.group is empty: name at least one managed instance group",
            id="no group",
        ),
        pytest.param(
            LEAST + LEAST.split("\n\n")[1],
            "autoscale.group spot-b is there 2 times: keep one of them",
            id="a group twice",
        ),
        pytest.param(
            with_group('region = "us-central1"'),
            "autoscale.group[0] (spot-b) has both zone and region: keep zone for a zonal group, or region",
            id="a zone and a region",
        ),
        pytest.param(
            LEAST.replace('zone = "us-central1-b"', ""),
            "autoscale.group[0] (spot-b) has neither zone nor region: give one of them",
            id="no place",
        ),
    ],
)
def test_a_contradiction_is_refused_by_name(path: Path, text: str, problem: str) -> None:
    assert problems(path, text) == [problem]


def test_all_mistakes_are_named_at_once(path: Path) -> None:
    text = with_key("interval_s = 1").replace("my-project", "_") + "maximum = 5\n[autoscale.size]\nmin_total = -1\n"
    assert [line.split(" is ")[0] for line in problems(path, text)] == [
        "autoscale.interval_s",
        "autoscale.project",
        "autoscale.size.min_total",
        "autoscale.group[0].maximum",
    ]


def test_a_file_that_is_not_there_or_no_toml_is_named(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"autoscale\.toml cannot be read: .*No such file"):
        load_settings(path)
    with pytest.raises(ConfigurationError, match=r"autoscale\.toml cannot be read: .*line 1"):
        load(path, "[autoscale\n")


@pytest.mark.parametrize("key", CATALOG, ids=lambda key: f"{key.section}.{key.name}")
def test_every_key_is_documented_and_its_default_is_valid(key: Key) -> None:
    assert key.help.endswith(".")
    default_value(key)


def test_no_key_is_there_twice() -> None:
    names: list[Any] = [(key.section, key.name) for key in CATALOG]
    assert len(set(names)) == len(names)
