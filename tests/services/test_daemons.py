"""The servers of the local cluster: they come up, keep what they hold, and never outlive whoever started them."""

import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import greenstalk
import pytest
import sqlalchemy

from dist_test.errors import LocalClusterError
from dist_test.local.daemons import Beanstalkd, MariaDb, SeaweedFs
from dist_test.local.ports import is_free
from dist_test.local.program import Program, wait_until

if TYPE_CHECKING:
    from types_boto3_s3.service_resource import Bucket

SERVERS = (MariaDb, Beanstalkd, SeaweedFs)


@pytest.fixture
def own_beanstalkd(tmp_path: Path) -> Iterator[Beanstalkd]:
    """A beanstalkd that the test may kill."""
    server = Beanstalkd(tmp_path / "beanstalkd")
    server.start()
    yield server
    server.kill()


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def listening_addresses(pid: int) -> set[str]:
    """The addresses on which a process listens, in the kernel's hexadecimal notation."""
    inodes = {
        match[1]
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if (match := re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink())))
    }
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            is_listening = fields[3] == "0A"
            if is_listening and fields[9] in inodes:
                found.add(fields[1].split(":")[0])
    return found


class TestMariaDb:
    def test_its_account_may_use_the_database_and_make_others_of_the_same_prefix(self, mariadb: MariaDb) -> None:
        query(mariadb.url, "CREATE DATABASE dist_test_other")
        query(mariadb.url, "DROP DATABASE dist_test_other")
        assert query(mariadb.url, "SELECT DATABASE()") == [("dist_test",)]

    def test_its_account_may_not_touch_the_accounts(self, mariadb: MariaDb) -> None:
        with pytest.raises(sqlalchemy.exc.OperationalError, match="denied"):
            query(mariadb.url, "SELECT * FROM mysql.global_priv")

    def test_it_syncs_at_each_commit_and_keeps_utc(self, mariadb: MariaDb) -> None:
        assert query(mariadb.url, "SELECT @@innodb_flush_log_at_trx_commit, @@time_zone") == [(1, "+00:00")]

    def test_rows_and_address_survive_a_kill_in_a_directory_with_spaces(self, tmp_path: Path) -> None:
        server = MariaDb(tmp_path / "maria db")
        server.start()
        url = server.url
        query(url, "CREATE TABLE kept (n INT)")
        query(url, "INSERT INTO kept VALUES (7)")
        server.kill()

        again = MariaDb(tmp_path / "maria db")
        again.start()
        rows = query(url, "SELECT n FROM kept")
        again.stop()
        assert (rows, again.url) == ([(7,)], url)

    def test_a_state_directory_too_deep_for_its_socket_is_refused_by_length(self, tmp_path: Path) -> None:
        with pytest.raises(LocalClusterError, match="107 are allowed; give a state directory with a shorter path"):
            MariaDb(tmp_path / ("d" * 100)).start()


class TestBeanstalkd:
    def test_what_was_put_survives_a_kill(self, own_beanstalkd: Beanstalkd) -> None:
        with greenstalk.Client(own_beanstalkd.address) as client:
            client.put("kept")
        own_beanstalkd.kill()
        own_beanstalkd.start()
        with greenstalk.Client(own_beanstalkd.address) as client:
            assert client.reserve(timeout=0).body == "kept"

    def test_wipe_loses_what_was_put(self, own_beanstalkd: Beanstalkd) -> None:
        with greenstalk.Client(own_beanstalkd.address) as client:
            client.put("lost")
        own_beanstalkd.stop()
        own_beanstalkd.wipe()
        own_beanstalkd.start()
        with greenstalk.Client(own_beanstalkd.address) as client, pytest.raises(greenstalk.TimedOutError):
            client.reserve(timeout=0)

    def test_wipe_is_refused_while_it_runs(self, own_beanstalkd: Beanstalkd) -> None:
        with pytest.raises(LocalClusterError, match=r"stop\(\) it before wipe\(\)"):
            own_beanstalkd.wipe()

    def test_a_body_above_its_limit_is_refused(self, beanstalkd: Beanstalkd) -> None:
        with greenstalk.Client(beanstalkd.address) as client, pytest.raises(greenstalk.JobTooBigError):
            client.put("x" * (beanstalkd.max_job_bytes + 1))


class TestSeaweedFs:
    def test_an_object_survives_a_kill_and_is_writable_at_once(self, tmp_path: Path) -> None:
        server = SeaweedFs(tmp_path / "seaweedfs")
        server.start()
        bucket = open_bucket(server)
        bucket.create()
        bucket.put_object(Key="key", Body=b"content")
        server.kill()

        again = SeaweedFs(tmp_path / "seaweedfs")
        again.start()
        content = open_bucket(again).Object("key").get()["Body"].read()
        again.stop()
        assert content == b"content"

    def test_other_keys_are_refused(self, seaweedfs: SeaweedFs) -> None:
        stranger = boto3.client(
            "s3",
            endpoint_url=seaweedfs.endpoint_url,
            aws_access_key_id="stranger",
            aws_secret_access_key="guess",
            region_name=seaweedfs.region,
        )
        with pytest.raises(stranger.exceptions.ClientError, match="InvalidAccessKeyId"):
            stranger.list_buckets()

    def test_it_leaves_nothing_in_tmp(self, tmp_path: Path) -> None:
        server = SeaweedFs(tmp_path / "seaweedfs")
        server.start()
        server.stop()
        ports = {str(port) for port in server.ports.values()}
        assert [
            path for path in Path("/tmp").glob("seaweedfs-*.sock") if ports & set(re.findall(r"\d+", path.name))
        ] == []


def open_bucket(server: SeaweedFs) -> "Bucket":
    return boto3.resource(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
    ).Bucket("bucket")


@pytest.mark.parametrize("fixture", ["mariadb", "beanstalkd", "seaweedfs"])
def test_every_port_is_bound_to_loopback(fixture: str, request: pytest.FixtureRequest) -> None:
    server: Program = request.getfixturevalue(fixture)
    assert listening_addresses(server.pid) == {"0100007F"}


@pytest.mark.parametrize("fixture", ["mariadb", "beanstalkd", "seaweedfs"])
def test_secrets_are_for_the_owner_only(fixture: str, request: pytest.FixtureRequest) -> None:
    server: Program = request.getfixturevalue(fixture)
    names = {"password", "accounts.sql", "secret_key", "identities.json"}
    modes = {path.name: path.stat().st_mode & 0o077 for path in server.state_dir.iterdir() if path.name in names}
    assert set(modes.values()) <= {0}


def test_a_server_that_is_up_is_not_started_twice(own_beanstalkd: Beanstalkd) -> None:
    pid = own_beanstalkd.pid
    own_beanstalkd.start()
    assert own_beanstalkd.pid == pid


def test_stop_waits_for_the_end_and_may_be_repeated(own_beanstalkd: Beanstalkd) -> None:
    own_beanstalkd.stop()
    own_beanstalkd.stop()
    assert (own_beanstalkd.is_running, own_beanstalkd.exit_status) == (False, -signal.SIGTERM)


def test_a_fixed_port_that_is_taken_is_named(tmp_path: Path, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)), pytest.raises(LocalClusterError, match=f"port {free_port} "):
        Beanstalkd(tmp_path / "beanstalkd", port=free_port).start()


def test_a_port_whose_last_user_is_about_to_end_is_waited_for(own_beanstalkd: Beanstalkd) -> None:
    own_beanstalkd.keep_ports()
    own_beanstalkd.stop()
    with socket.create_server(("127.0.0.1", own_beanstalkd.port)) as last:
        ending = threading.Timer(0.2, last.close)
        ending.start()
        own_beanstalkd.start()
    ending.join()


def test_a_remembered_port_that_is_taken_is_replaced(own_beanstalkd: Beanstalkd) -> None:
    before = own_beanstalkd.port
    own_beanstalkd.stop()
    with socket.create_server(("127.0.0.1", before)):
        own_beanstalkd.start()
    assert own_beanstalkd.port != before


def test_a_program_that_ends_at_once_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    class Broken(Program):
        name = "broken"

        def _command(self) -> list[str]:
            return ["/bin/sh", "-c", "echo the reason; exit 3"]

        def _answers(self) -> bool:
            return False

    with pytest.raises(LocalClusterError, match=r"(?s)broken ended with exit status 3.*the reason"):
        Broken(tmp_path / "broken").start()


def test_a_program_that_never_answers_is_killed(tmp_path: Path) -> None:
    class Silent(Program):
        name = "silent"
        start_limit = timedelta(seconds=0.2)

        def _command(self) -> list[str]:
            return ["/bin/sleep", "60"]

        def _answers(self) -> bool:
            return False

    silent = Silent(tmp_path / "silent")
    with pytest.raises(LocalClusterError, match=r"silent stayed silent for 0\.2 s"):
        silent.start()
    assert silent.exit_status == -signal.SIGKILL


def test_a_server_lives_on_when_the_thread_that_started_it_ends(tmp_path: Path) -> None:
    server = Beanstalkd(tmp_path / "beanstalkd")
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    is_running = server.is_running
    server.kill()
    assert is_running


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_a_server_dies_with_its_parent_even_on_sigkill(server: type[Program], tmp_path: Path) -> None:
    script = f"""
        import signal
        from pathlib import Path
        from dist_test.local.daemons import {server.__name__}
        server = {server.__name__}(Path({str(tmp_path / "state")!r}))
        server.start()
        print(server.pid, *server.ports.values(), flush=True)
        signal.pause()
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, *ports = (int(word) for word in parent.stdout.readline().split())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: all(is_free(port) for port in ports), limit=timedelta(seconds=10))
    assert wait_until(lambda: not is_alive(pid), limit=timedelta(seconds=10))
    server(tmp_path / "state").kill()  # removes what the killed one left in /tmp


def is_alive(pid: int) -> bool:
    """A process that nobody has reaped yet counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
