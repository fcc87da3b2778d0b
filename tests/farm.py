"""A cluster of real processes whose parts a test may stop, kill and start again, with leases of seconds.

Each program logs in to the database with the rights that it has in a deployed cluster.
"""

import configparser
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.auth import HTTPDigestAuth
from sqlalchemy import create_engine, text

from dist_test.isolate.archive import Archiver
from dist_test.isolate.client import IsolateClient
from dist_test.isolate.stat_cache import StatCache
from dist_test.local.configuration import BUCKET, Addresses, Files, write_configurations
from dist_test.local.daemons import Beanstalkd, MariaDb, SeaweedFs
from dist_test.local.program import Program, beside_python
from dist_test.local.services import IsolateServer, Master, Slave
from dist_test.settings import MysqlSettings
from dist_test.storage.database import Database
from dist_test.storage.results import Bucket

from .accounts import OWNER, grant_all, make_accounts

TIMES = {
    "beanstalk": {"time_to_run_seconds": "3"},
    "master": {
        "setup_retry_seconds": "0",
        "submit_lease_seconds": "2",
        "reconcile_seconds": "1",
        "queued_grace_seconds": "2",
    },
    "slave": {
        "lease_seconds": "4",
        "heartbeat_seconds": "0.5",
        "busy_retry_seconds": "1",
        "kill_grace_seconds": "1",
        "drain_seconds": "30",
        "quarantine_seconds": "3",
    },
}


class Farm:
    """The programs of one cluster, started one by one as a test needs them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = Files(state_dir=directory)
        self.files.make()
        self.mariadb = MariaDb(directory / "mariadb")
        self.beanstalkd = Beanstalkd(directory / "beanstalkd", fsync_milliseconds=0)
        self.seaweedfs = SeaweedFs(directory / "seaweedfs")
        self.isolate = IsolateServer(directory / "isolate", self.files.service_configuration)
        self.master = Master(directory / "master", self.files.service_configuration)
        self.slave_configuration = directory / "slave.cnf"
        self.accounts: Mapping[str, MysqlSettings] = {}
        self.slaves: list[Slave] = []
        self.others: list[Program] = []  # what a test started by itself

    def start(self, **settings: dict[str, str]) -> None:
        """Start everything but slaves; `settings` are added to the services' file, by section."""
        for program in (self.mariadb, self.beanstalkd, self.seaweedfs):
            program.start()
            program.keep_ports()
        for service in (self.isolate, self.master):
            service.reserve_ports()
        self.accounts = make_accounts(self.mariadb, self.mariadb.database)
        self._configure({self.files.service_configuration: OWNER}, {})
        self.master.migrate()
        grant_all(self.accounts)
        self.configure(**settings)
        self.bucket.ensure_exists()
        self.isolate.start()
        self.master.start()

    def configure(self, **settings: dict[str, str]) -> None:
        """Write the files of master and slaves anew, with the times of tests and these settings."""
        self._configure({self.files.service_configuration: "master", self.slave_configuration: "slave"}, settings)

    def _configure(self, roles: Mapping[Path, str], settings: Mapping[str, dict[str, str]]) -> None:
        addresses = Addresses(master=self.master.port, isolate=self.isolate.port)
        write_configurations(self.files, addresses, self.mariadb, self.beanstalkd, self.seaweedfs)
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.files.service_configuration)
        for path, role in roles.items():
            account = {"user": self.accounts[role].user, "password": self.accounts[role].password}
            for section, values in (*TIMES.items(), *settings.items(), ("mysql", account)):
                parser.read_dict({section: values})
            path.touch(mode=0o600)  # as it is deployed: tasks must not read it
            with path.open("w") as stream:
                parser.write(stream)

    def slave(self, *, slots: int = 1) -> Slave:
        """Start another slave, slave-0 first."""
        number = len(self.slaves)
        slave = Slave(self.directory / f"slave-{number}", self.slave_configuration, number=number, slots=slots)
        self.slaves.append(slave)
        slave.start()
        return slave

    def stop(self) -> None:
        """End every program."""
        programs: Sequence[Program] = (
            *self.others,
            *self.slaves,
            self.master,
            self.isolate,
            self.seaweedfs,
            self.beanstalkd,
            self.mariadb,
        )
        for program in programs:
            if program.was_started:
                program.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.master.port}"

    @property
    def bucket(self) -> Bucket:
        seaweedfs = self.seaweedfs
        return Bucket(
            BUCKET,
            endpoint_url=seaweedfs.endpoint_url,
            access_key=seaweedfs.access_key,
            secret_key=seaweedfs.secret_key,
        )

    def archive(self, script: str, *, data: bytes = b"") -> str:
        """Store a task that runs a shell script, beside a file of this data if there is any; give back its hash."""
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        if data:
            (directory / "data").write_bytes(data)
        (directory / "run.sh").write_text(f"#!/bin/sh\n{script}\n")
        (directory / "run.sh").chmod(0o755)
        with ExitStack() as stack:
            client = IsolateClient(f"http://127.0.0.1:{self.isolate.port}")
            stack.callback(client.close)
            archived = Archiver(StatCache(None)).archive(directory, [f"{directory}/"], command=["./run.sh"])
            client.upload(archived.blobs)
        return archived.digest

    def submit(
        self, job_id: str, *tasks: dict[str, Any], url: str | None = None, auth: tuple[str, str] | None = None
    ) -> requests.Response:
        """Submit a job over HTTP, whatever the answer."""
        body = {"job_id": job_id, "owner": "ann", "tasks": list(tasks)}
        digest = HTTPDigestAuth(*auth) if auth else None
        return requests.post(f"{url or self.url}/api/v1/jobs", json=body, auth=digest, timeout=60)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job over HTTP; give back its object."""
        answer = requests.post(f"{self.url}/api/v1/jobs/{job_id}/cancel", json={}, timeout=30)
        answer.raise_for_status()
        job: dict[str, Any] = answer.json()
        return job

    def operate(self, *arguments: str) -> str:
        """Run `dist-test-master` to its end; give back what it said."""
        environment = os.environ | {"DIST_TEST_CNF": str(self.files.service_configuration)}
        command = [beside_python("dist-test-master"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def tube(self) -> int:
        """How many entries there are in the tube, reserved ones included."""
        answer = requests.get(f"{self.url}/stats", timeout=30).json()["queue"]
        return int(answer["ready"] + answer["reserved"] + answer["delayed"])

    def job(self, job_id: str) -> dict[str, Any]:
        """The job's object."""
        answer: dict[str, Any] = requests.get(f"{self.url}/api/v1/jobs/{job_id}", timeout=30).json()
        return answer

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """The job's attempts."""
        answer = requests.get(f"{self.url}/api/v1/jobs/{job_id}/attempts", timeout=30).json()
        found: list[dict[str, Any]] = answer["attempts"]
        return found

    def wait_for_job(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for the job's end; give back its object."""
        wait(lambda: self.job(job_id)["state"] == "finished", seconds, lambda: json.dumps(self.job(job_id)))
        return self.job(job_id)

    def sql(self, statement: str, **values: object) -> list[Any]:
        """Rows, straight from the database."""
        engine = create_engine(self.mariadb.url)
        with engine.begin() as connection:
            result = connection.execute(text(statement), values)
            rows = list(result) if result.returns_rows else []
        engine.dispose()
        return rows

    def database(self) -> Database:
        """A connection pool of the test's own."""
        mariadb = self.mariadb
        settings = MysqlSettings(
            host=mariadb.host,
            port=mariadb.port,
            user=mariadb.user,
            password=mariadb.password,
            database=mariadb.database,
        )
        return Database(settings)


def wait(condition: Callable[[], bool], seconds: float = 30, explain: Callable[[], str] = lambda: "") -> None:
    """Wait until `condition` holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true in {seconds} s {explain()}"
        time.sleep(0.05)


@pytest.fixture
def farm() -> Iterator[Farm]:
    """A cluster of the test's own, not started yet, in a directory that task users can pass through."""
    directory = Path(tempfile.mkdtemp(prefix="dist_test-farm-", dir="/var/tmp"))
    farm = Farm(directory)
    yield farm
    farm.stop()
    shutil.rmtree(directory)


@pytest.fixture
def marks() -> Iterator[Path]:
    """A directory in which tasks, of whatever user, leave marks for the test."""
    directory = Path(tempfile.mkdtemp(prefix="dist_test-marks-", dir="/var/tmp"))
    os.chmod(directory, 0o1777)  # noqa: PTH101  # sticky, as /tmp is
    yield directory
    shutil.rmtree(directory)
