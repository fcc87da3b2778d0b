"""Settings: where they come from, and every mistake named at once."""

from pathlib import Path

import pytest

from dist_test.errors import ConfigurationError
from dist_test.settings import configuration_path, load_client_settings, load_master_settings, load_slave_settings
from dist_test.settings.catalog import CATALOG

MINIMAL = """
[dist_test]
master = http://master:8081/
[isolate]
server = http://isolate:4242
[mysql]
host = db
user = dist_test
password = 50%off
database = dist_test
[beanstalk]
host = queue
[aws]
access_key = a
secret_key = s
test_result_bucket = results
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment that names a configuration file with the least a cluster needs."""
    path = tmp_path / "dist_test.cnf"
    path.write_text(MINIMAL)
    return {"DIST_TEST_CNF": str(path), "HOME": str(tmp_path)}


def _write(environ: dict[str, str], text: str) -> None:
    Path(environ["DIST_TEST_CNF"]).write_text(text)


def test_the_minimal_file_is_enough_for_every_program(environ: dict[str, str]) -> None:
    assert load_client_settings(environ).master == "http://master:8081"
    assert load_master_settings(environ).mysql.password == "50%off"
    assert load_slave_settings(environ).beanstalk.port == 11300


def test_the_environment_wins_over_the_file(environ: dict[str, str]) -> None:
    environ |= {"MYSQL_PWD": "other", "TEST_RESULT_BUCKET": "b", "DIST_TEST_MASTER": "http://m:1"}
    assert load_master_settings(environ).mysql.password == "other"
    assert load_master_settings(environ).aws.bucket == "b"
    assert load_client_settings(environ).master == "http://m:1"


def test_the_file_is_found_in_the_home_directory(environ: dict[str, str]) -> None:
    home = Path(environ["HOME"])
    (home / ".dist_test.cnf").write_text("")
    assert configuration_path({"HOME": str(home)}) == home / ".dist_test.cnf"


def test_a_named_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="DIST_TEST_CNF is /nowhere, which is not a file"):
        load_client_settings({"DIST_TEST_CNF": "/nowhere"})


def test_all_mistakes_are_named_at_once_with_file_section_and_key(environ: dict[str, str]) -> None:
    text = MINIMAL.replace("host = db", "host = db\nport = 0").replace("[beanstalk]", "[beanstalkd]")
    _write(environ, text.replace("[isolate]", "[isolate]\ncache_max_byte = 1") + "endpoint_url = seaweed\n")
    with pytest.raises(ConfigurationError) as caught:
        load_slave_settings(environ)
    path = environ["DIST_TEST_CNF"]
    assert str(caught.value).splitlines() == [
        f"{path}: section [beanstalkd] is not known; did you mean beanstalk?",
        f"{path}: [isolate] cache_max_byte is not known; did you mean cache_max_bytes?",
        f"{path}: [aws] endpoint_url is 'seaweed': give an address such as http://master.example.com:8081",
        f"{path}: [mysql] port is '0': give a whole number from 1 to 65535",
        f"beanstalk.host is not set; set host in section [beanstalk] of {path}, or the environment variable"
        " BEANSTALK_HOST",
    ]


def test_a_required_setting_that_is_bad_is_named_once(environ: dict[str, str]) -> None:
    environ |= {"DIST_TEST_MASTER": "master:8081"}
    with pytest.raises(ConfigurationError) as caught:
        load_slave_settings(environ)
    assert str(caught.value) == (
        "environment variable DIST_TEST_MASTER is 'master:8081': give an address such as http://master.example.com:8081"
    )


@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [
        ("DIST_TEST_SLAVE_DRAIN_SECONDS", "9" * 400, "at most 86400000"),
        ("DIST_TEST_SLAVE_DRAIN_SECONDS", "99999999999999", "at most 86400000"),
        ("DIST_TEST_SLAVE_WORK_DIR", "~nobody-of-this-name/work", "there is no such home directory"),
    ],
)
def test_a_value_past_all_reason_is_a_mistake_like_any_other(
    environ: dict[str, str], variable: str, value: str, advice: str
) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        load_slave_settings(environ | {variable: value})


def test_a_bad_value_of_a_secret_is_not_shown(environ: dict[str, str]) -> None:
    _write(environ, MINIMAL.replace("[dist_test]", '[dist_test]\naccounts = {"user": hunter2}'))
    with pytest.raises(ConfigurationError) as caught:
        load_master_settings(environ)
    assert "hunter2" not in str(caught.value)
    assert "[dist_test] accounts is (not shown): not JSON" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[mysql]\nhost = db\npassword hunter2\n", "neither [section] nor KEY = VALUE: line 3"),
        ("password = hunter2\n[mysql]\n", "line 1 stands before the first [section]"),
        ("[mysql]\npassword = a\npassword = hunter2\n", "option 'password' in section 'mysql' already exists"),
    ],
)
def test_a_file_that_is_no_ini_file_is_told_without_its_secrets(
    environ: dict[str, str], text: str, reason: str
) -> None:
    _write(environ, text)
    with pytest.raises(ConfigurationError) as caught:
        load_client_settings(environ)
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_secrets_are_not_in_the_records_text(environ: dict[str, str]) -> None:
    assert "50%off" not in repr(load_master_settings(environ))


def test_a_heartbeat_longer_than_half_the_lease_is_refused(environ: dict[str, str]) -> None:
    environ |= {"DIST_TEST_SLAVE_HEARTBEAT_SECONDS": "40"}
    with pytest.raises(ConfigurationError, match=r"heartbeat_seconds is 40, more than half"):
        load_slave_settings(environ)


def test_by_default_a_canceled_task_is_gone_within_15_seconds(environ: dict[str, str]) -> None:
    settings = load_slave_settings(environ)

    assert (settings.heartbeat_every + settings.kill_grace).total_seconds() < 15  # noticed late, and deaf to SIGTERM


def test_only_loopback_may_submit_unless_told_otherwise(environ: dict[str, str]) -> None:
    assert [str(network) for network in load_master_settings(environ).allowed_ip_ranges] == ["127.0.0.0/8", "::1/128"]


def test_the_keys_of_the_nonces_differ_with_the_accounts(environ: dict[str, str]) -> None:
    first = load_master_settings(environ).nonce_key
    environ |= {"DIST_TEST_ACCOUNTS": '{"user": "password"}'}
    assert load_master_settings(environ).nonce_key != first


@pytest.mark.parametrize("setting", CATALOG, ids=lambda setting: setting.name)
def test_every_setting_is_documented_and_its_default_is_valid(setting: object) -> None:
    from dist_test.settings.catalog import Setting, default_value

    assert isinstance(setting, Setting)
    assert setting.help.endswith(".")
    default_value(setting)


def test_no_two_settings_share_a_variable() -> None:
    variables = [setting.environment for setting in CATALOG]
    assert len(set(variables)) == len(variables)
