"""A master on real servers: its application in this process, or the whole program under gunicorn."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from dist_test.local import services
from dist_test.local.daemons import SeaweedFs
from dist_test.master.application import create_app
from dist_test.master.service import Service
from dist_test.model.outcome import Outcome
from dist_test.model.task import QueueEntry
from dist_test.settings import BeanstalkSettings, MasterSettings, MysqlSettings, load_master_settings
from dist_test.storage.claims import Claim, Claims
from dist_test.storage.database import Database
from dist_test.storage.finishes import Finishes, Result
from dist_test.storage.queue import Queue, Queues
from dist_test.storage.results import Bucket

from ..storage.conftest import LEASE

HASH = "a" * 40
STRANGER = "192.0.2.1"
USER, PASSWORD = "ann", "secret"
BUCKET = "dist-test-master-tests"


def job_document(*descriptions: str, job_id: str = "job", max_retries: int = 0, **fields: Any) -> dict[str, Any]:
    """The body of a submit on the new API, with a task for each description."""
    tasks = [{"isolate_hash": HASH, "description": name, "max_retries": max_retries} for name in descriptions]
    return {"job_id": job_id, "tasks": tasks, **fields}


def job_form(*descriptions: str, job_id: str = "job", max_retries: int = 0) -> dict[str, str]:
    """The form of a submit on the original's path."""
    tasks = job_document(*descriptions, max_retries=max_retries)["tasks"]
    return {"job_id": job_id, "job_json": json.dumps({"tasks": tasks})}


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What a 401 asked for."""

    nonce: str
    is_stale: bool

    @classmethod
    def of(cls, header: str) -> "Challenge":
        assert header.startswith("Digest ")
        fields = dict(item.strip().split("=", 1) for item in header.removeprefix("Digest ").split(","))
        assert fields["realm"] == '"dist_test"'
        assert fields["qop"] == '"auth"'
        return cls(nonce=fields["nonce"].strip('"'), is_stale=fields.get("stale", "").strip('"') == "true")


def digest_header(
    method: str, uri: str, nonce: str, *, count: int = 1, user: str = USER, password: str = PASSWORD
) -> str:
    """An Authorization header, made as RFC 7616 says and not as any library does."""
    first = _md5(f"{user}:dist_test:{password}")
    second = _md5(f"{method}:{uri}")
    response = _md5(f"{first}:{nonce}:{count:08x}:abc:auth:{second}")
    return (
        f'Digest username="{user}", realm="dist_test", nonce="{nonce}", uri="{uri}", qop=auth, nc={count:08x},'
        f' cnonce="abc", response="{response}", algorithm=MD5'
    )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def master_environ(
    mysql: MysqlSettings, beanstalk: BeanstalkSettings, seaweedfs: SeaweedFs, *, bucket: str
) -> dict[str, str]:
    """The environment of a master on the session's servers, with one account; loopback is allowed as by default."""
    return {
        "MYSQL_HOST": mysql.host,
        "MYSQL_PORT": str(mysql.port),
        "MYSQL_USER": mysql.user,
        "MYSQL_PWD": mysql.password,
        "MYSQL_DB": mysql.database,
        "BEANSTALK_HOST": beanstalk.host,
        "BEANSTALK_PORT": str(beanstalk.port),
        "BEANSTALK_TUBE": beanstalk.tube,
        "AWS_ACCESS_KEY": seaweedfs.access_key,
        "AWS_SECRET_KEY": seaweedfs.secret_key,
        "AWS_ENDPOINT_URL": seaweedfs.endpoint_url,
        "AWS_REGION": seaweedfs.region,
        "TEST_RESULT_BUCKET": bucket,
        "DIST_TEST_ACCOUNTS": json.dumps({USER: PASSWORD}),
        "HOME": "/nonexistent",
    }


@pytest.fixture
def environ(master_database: Database, beanstalk_settings: BeanstalkSettings, seaweedfs: SeaweedFs) -> dict[str, str]:
    """The environment of a master: its rights in the database, one account, loopback allowed as by default."""
    return master_environ(master_database.settings, beanstalk_settings, seaweedfs, bucket=BUCKET) | {
        "DIST_TEST_MASTER_MAX_BODY_BYTES": "8M"
    }


@pytest.fixture
def settings(environ: dict[str, str]) -> MasterSettings:
    """The settings of the master in this process."""
    return load_master_settings(environ)


@pytest.fixture
def service(settings: MasterSettings, master_database: Database, queues: Queues) -> Service:
    """A master's rules on the test's database and tube."""
    return Service(settings, master_database, queues)


@pytest.fixture
def bucket(settings: MasterSettings) -> Bucket:
    """The bucket of logs and artifacts."""
    bucket = Bucket.of(settings.aws)
    bucket.ensure_exists()
    return bucket


MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(
    settings: MasterSettings, service: Service, master_database: Database, queues: Queues, bucket: Bucket
) -> MakeApp:
    """Make an application whose settings differ in some fields."""

    def make(**fields: Any) -> Flask:
        changed = replace(settings, **fields)
        app = create_app(changed, service=service, database=master_database, queues=queues, results=bucket)
        app.testing = True
        return app

    return make


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """A master's application."""
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client on loopback, which is allowed."""
    return app.test_client()


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    """A client from an address that is not allowed."""
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = STRANGER
    return client


class Hand:
    """A slave that does by hand what a real one does in a loop."""

    def __init__(self, database: Database, queue: Queue) -> None:
        self._claims = Claims(database, slave_id="slave-1", lease=LEASE)
        self._finishes = Finishes(database, slave_id="slave-1")
        self._queue = queue

    def take(self) -> tuple[QueueEntry, Claim]:
        """Reserve the next entry and claim its attempt."""
        reservation = self._queue.reserve(timeout_seconds=0)
        assert reservation is not None, "the tube is empty"
        entry = QueueEntry.from_body(reservation.body)
        claim = self._claims.claim(entry)
        assert isinstance(claim, Claim), claim
        self._queue.finish(reservation)
        return entry, claim

    def run(self, outcome: Outcome = Outcome.SUCCEEDED, **fields: Any) -> tuple[QueueEntry, Claim]:
        """Take the next attempt and record an end."""
        entry, claim = self.take()
        result = Result(claim=claim, outcome=outcome, task=entry.task)
        self._finishes.record([replace(result, **fields)])
        return entry, claim

    def learn(self) -> None:
        """Write down how long what it ran has taken."""
        self._finishes.learn()


@pytest.fixture
def hand(slave_database: Database, queue: Queue) -> Hand:
    """A slave on the test's database and tube."""
    return Hand(slave_database, queue)


class Master(services.Master):
    """The program, with its settings in the environment."""

    def __init__(self, state_dir: Path, environ: Mapping[str, str]) -> None:
        super().__init__(state_dir, state_dir / "unused")
        self._environ = dict(environ)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _environment(self) -> Mapping[str, str]:
        return {**self._environ, "DIST_TEST_MASTER_BIND": f"127.0.0.1:{self.port}", "PATH": "/usr/bin:/bin"}


MakeMaster = Callable[..., Master]


@pytest.fixture
def make_master(tmp_path: Path, environ: dict[str, str], bucket: Bucket) -> Iterator[MakeMaster]:
    """Start masters, and stop them after the test."""
    made: list[Master] = []

    def make(**changed: str) -> Master:
        master = Master(tmp_path / f"master-{len(made)}", environ | changed)
        made.append(master)
        master.start()
        return master

    yield make
    for master in made:
        master.stop()
