"""The settings that a slave from an image gets on its first boot."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_test.errors import ConfigurationError, MetadataUnavailable
from dist_test.settings import SlaveSettings, load_slave_settings
from dist_test.slave.command import main
from dist_test.slave.metadata import configure, fetch_instance

from ...fakes.clock import FakeClock
from ...fakes.metadata import FakeMetadata

BASE = """
[slave]
slots = 4
work_dir = /srv/work
"""
SETTINGS = """
[dist_test]
master = http://master:8081
user = slaves
password = 50%off
[isolate]
server = http://isolate:4242
[mysql]
host = db
user = dist_test_slave
password = secret
database = dist_test
[beanstalk]
host = queue
[aws]
access_key = a
secret_key = s
test_result_bucket = results
[slave]
slots = 8
environment = {"A": "one",
 "B": "two"}
"""


@pytest.fixture
def metadata() -> Iterator[FakeMetadata]:
    """Those of an instance that a group made; no request may break the server's rules."""
    server = FakeMetadata()
    server.attributes = {
        "created-by": "projects/123456/zones/us-central1-a/instanceGroupManagers/slaves-spot",
        "instance-template": "projects/123456/global/instanceTemplates/slave-v7",
        "dist-test-settings": SETTINGS,
    }
    server.start()
    yield server
    server.stop()
    assert server.violations == []


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.cnf"
    path.write_text(BASE)
    return path


def _configured(metadata: FakeMetadata, base: Path) -> SlaveSettings:
    output = base.parent / "run" / "slave.cnf"
    configure(metadata.url, base=base, output=output)
    return load_slave_settings({"DIST_TEST_CNF": str(output)})


def test_the_instance_says_who_the_slave_is(metadata: FakeMetadata, base: Path) -> None:
    settings = _configured(metadata, base)
    assert (settings.slave_id, settings.instance_id) == ("slave-x1f7", "5583812935284419712")
    assert (settings.zone, settings.mig, settings.template) == ("us-central1-a", "slaves-spot", "slave-v7")


def test_the_server_is_watched_for_a_preemption_unless_the_attribute_says_not(
    metadata: FakeMetadata, base: Path
) -> None:
    assert _configured(metadata, base).metadata_url == metadata.url
    metadata.attributes["dist-test-settings"] += "metadata_url =\n"
    assert _configured(metadata, base).metadata_url is None


def test_the_attribute_wins_over_the_image_and_leaves_the_rest(metadata: FakeMetadata, base: Path) -> None:
    settings = _configured(metadata, base)
    assert (settings.slots, settings.work_dir) == (8, Path("/srv/work"))
    assert settings.mysql.password == "secret"


def test_percent_signs_and_values_of_several_lines_arrive_as_they_were(metadata: FakeMetadata, base: Path) -> None:
    settings = _configured(metadata, base)
    assert settings.password == "50%off"
    assert settings.environment == {"A": "one", "B": "two"}


def test_an_instance_that_no_group_made_has_neither_group_nor_template(metadata: FakeMetadata, base: Path) -> None:
    del metadata.attributes["created-by"], metadata.attributes["instance-template"]
    settings = _configured(metadata, base)
    assert (settings.mig, settings.template) == ("", "")


def test_a_template_cannot_give_all_its_instances_one_id(metadata: FakeMetadata, base: Path) -> None:
    metadata.attributes["dist-test-settings"] += "id = all-the-same\n"
    assert _configured(metadata, base).slave_id == "slave-x1f7"


def test_without_the_attribute_the_image_must_hold_everything(metadata: FakeMetadata, base: Path) -> None:
    base.write_text(metadata.attributes.pop("dist-test-settings"))
    assert _configured(metadata, base).slots == 8


def test_the_file_belongs_to_its_owner_alone(metadata: FakeMetadata, base: Path) -> None:
    output = base.parent / "slave.cnf"
    configure(metadata.url, base=base, output=output)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("[slave]\nslotz = 3", r"attribute dist-test-settings: \[slave\] slotz is not known; did you mean slots"),
        ("[slaves]\nslots = 3", r"attribute dist-test-settings: section \[slaves\] is not known; did you mean slave"),
        ("password", r"attribute dist-test-settings cannot be read: line 1 stands before the first \[section\]"),
        ("[slave]\nslots = 0", "slots is '0': give a whole number from 1 to 256"),
        ("[mysql]\nport = 1", "dist_test.master is not set"),
    ],
    ids=["unknown key", "unknown section", "no INI file", "bad value", "not enough"],
)
def test_settings_that_no_slave_can_start_with_leave_the_old_file(
    metadata: FakeMetadata, base: Path, line: str, complaint: str
) -> None:
    output = base.parent / "slave.cnf"
    output.write_text("old")
    metadata.attributes["dist-test-settings"] = line
    with pytest.raises(ConfigurationError, match=complaint):
        configure(metadata.url, base=base, output=output)
    assert output.read_text() == "old"
    assert sorted(path.name for path in base.parent.iterdir()) == ["base.cnf", "slave.cnf"]


def test_a_server_that_is_not_ready_is_asked_again(metadata: FakeMetadata) -> None:
    metadata.next_statuses.extend([503, 500])
    clock = FakeClock()
    assert fetch_instance(metadata.url, now=clock.now, sleep=clock.sleep).name == "slave-x1f7"
    assert clock.sleeps == [0.5, 1.0]


def test_a_server_that_is_not_there_yet_is_asked_again(free_port: int) -> None:
    late = FakeMetadata(port=free_port)
    clock = FakeClock(lambda: None, late.start)
    try:
        assert fetch_instance(f"http://127.0.0.1:{free_port}", now=clock.now, sleep=clock.sleep).name == late.name
    finally:
        late.stop()


def test_a_server_that_never_answers_is_given_up_after_two_minutes(free_port: int) -> None:
    clock = FakeClock()
    with pytest.raises(MetadataUnavailable, match=r"did not answer: .*, for 120 s"):
        fetch_instance(f"http://127.0.0.1:{free_port}", now=clock.now, sleep=clock.sleep)
    assert 100 < sum(clock.sleeps) <= 120
    assert max(clock.sleeps) == 10


def test_an_answer_without_the_servers_header_is_not_believed(metadata: FakeMetadata) -> None:
    metadata.is_genuine = False
    with pytest.raises(MetadataUnavailable, match="lacks Metadata-Flavor: Google; correct --metadata"):
        fetch_instance(metadata.url)
    assert metadata.requests == 1


@pytest.mark.parametrize("status", [301, 404])
def test_an_answer_that_will_not_change_is_not_asked_for_again(metadata: FakeMetadata, status: int) -> None:
    metadata.next_statuses.append(status)
    with pytest.raises(MetadataUnavailable, match=f"answered {status}"):
        fetch_instance(metadata.url)
    assert metadata.requests == 1


def test_a_proxy_of_the_environment_is_not_used(metadata: FakeMetadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch_instance(metadata.url).name == "slave-x1f7"


def test_the_program_writes_the_file_and_says_for_whom(
    metadata: FakeMetadata, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = base.parent / "slave.cnf"
    arguments = ["configure", "--metadata", metadata.url, "--base", str(base), "--output", str(output)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{output}: settings of slave-x1f7\n"


def test_the_program_fails_in_words(metadata: FakeMetadata, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata.attributes["dist-test-settings"] = "[slave]\nslotz = 3"
    arguments = ["configure", "--metadata", metadata.url, "--base", str(base), "--output", f"{base}.out"]
    assert main(arguments) == 1
    assert "slotz is not known" in capsys.readouterr().err
