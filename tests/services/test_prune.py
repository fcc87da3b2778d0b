"""`dist-test-master prune`, and both prunes together: what a live job needs is never removed, what is old is."""

import functools
import io
import json
import multiprocessing
import os
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, text

from dist_test.isolate.digest import digest_bytes
from dist_test.isolate.prune import LOCK as BLOBS_LOCK
from dist_test.isolate.prune import Prune as BlobPrune
from dist_test.isolate.prune import Report as BlobReport
from dist_test.isolate.store import DiskStore
from dist_test.local.daemons import SeaweedFs
from dist_test.local.program import beside_python
from dist_test.master.prune import LOCK, Prune, Report
from dist_test.model.result_key import result_key
from dist_test.model.summary import COUNTER_NAMES
from dist_test.model.task import task_id
from dist_test.settings import AwsSettings, MysqlSettings
from dist_test.storage import schema
from dist_test.storage.database import Database
from dist_test.storage.leader import Leadership
from dist_test.storage.results import Bucket
from dist_test.storage.retention import ROWS_AT_ONCE, Retention
from dist_test.storage.used_hashes import UsedHashes

from ..accounts import OWNER
from ..farm import wait
from .conftest import empty_tables

BUCKET = "dist-test-prune"
GZIP = "default-gzip"
LIMIT = timedelta(days=30)
TABLES = ("jobs", "tasks", "attempts", "events", "live_logs")


@dataclass(frozen=True, kw_only=True)
class Given:
    """A job to write. `days_ago`: when it was submitted, and ended if it has; each task has two attempts.

    asked_days_ago: when its client has last asked for the files, None if never (a job of saved hashes).
    """

    job_id: str
    state: str = "finished"
    days_ago: float = 40
    hashes: Sequence[str] = ("a" * 40,)
    asked_days_ago: float | None = None

    @property
    def stays(self) -> bool:
        return self.state != "finished" or self.days_ago < 30


@dataclass(kw_only=True)
class World:
    """The database and the bucket."""

    database: Database
    aws: AwsSettings
    keys: dict[str, int] = field(default_factory=dict)

    @property
    def bucket(self) -> Bucket:
        return _bucket(self.aws)

    def write(self, *jobs: Given, objects: bool = True) -> None:
        for job in jobs:
            self._write_rows(job)
            for key in _keys_of(job) if objects else ():
                self.bucket.put_file(key, io.BytesIO(b"log"))

    def _write_rows(self, job: Given) -> None:
        with self.database.engine.begin() as connection:
            then = connection.execute(
                text("SELECT UTC_TIMESTAMP(6) - INTERVAL :seconds SECOND"), {"seconds": job.days_ago * 86400}
            ).scalar_one()
            number = len(job.hashes)
            counters = dict.fromkeys(COUNTER_NAMES, 0) | {"total_tasks": number, "total_attempts": 2 * number}
            row = {
                **dict.fromkeys(("name", "project", "fingerprint"), ""),
                **{"job_id": job.job_id, "owner": "ann", "state": job.state, "period": 1, "first_tag": 0, "weight": 1},
                **{"submitted_at": then, "finished_at": then if job.state == "finished" else None},
            }
            done = connection.execute(insert(schema.jobs).values(row | counters))
            key = self.keys[job.job_id] = int(done.lastrowid)
            places = [{"job_key": key, "task_index": index} for index in range(number)]
            task = {"description": "test", "timeout_seconds": 60, "max_retries": 1}
            connection.execute(
                insert(schema.tasks),
                [place | task | {"isolate_hash": job.hashes[place["task_index"]]} for place in places],
            )
            attempts = [place | {"attempt": attempt} for place in places for attempt in (0, 1)]
            ended = {"claim": 2, "finished_at": then if job.state == "finished" else None}
            connection.execute(insert(schema.attempts), [one | ended for one in attempts])
            connection.execute(insert(schema.events), [one | {"kind": "claimed", "actor": "x"} for one in attempts])
            tail = {"wanted_until": then, "stdout_bytes": 0, "stdout_tail": b"", "stderr_bytes": 0, "stderr_tail": b""}
            connection.execute(insert(schema.live_logs), [attempts[0] | tail | {"claim": 1, "written_at": then}])

    def rows(self) -> dict[str, dict[str, int]]:
        """By job id and table, how many there are; of jobs whose own row is gone too."""
        found: dict[str, dict[str, int]] = {}
        with self.database.engine.begin() as connection:
            for name in TABLES:
                column = schema.metadata.tables[name].c.job_key
                rows = connection.execute(select(column, func.count()).group_by(column))
                counts: dict[int, int] = {row[0]: row[1] for row in rows}
                for job_id, key in self.keys.items():
                    found.setdefault(job_id, {})[name] = counts.get(key, 0)
        return found

    def objects(self) -> set[str]:
        return {stored.key for stored in self.bucket.list("")}

    def prune(self, age: timedelta = LIMIT, *, is_dry: bool = False) -> Report:
        retention = Retention(self.database, sleep=lambda _: None)
        return Prune(retention, self.bucket, fence=lambda: None, is_dry=is_dry).run(age, lambda *_: None)


def _keys_of(job: Given) -> Iterator[str]:
    """Of each first attempt: logs of the claim that counts, and of one that lost."""
    for index, digest in enumerate(job.hashes):
        for claim in (1, 2):
            for name in ("stdout", "artifacts.zip"):
                yield result_key(job.job_id, task_id(digest, index), 0, claim, name)


def _rows_of(job: Given) -> dict[str, int]:
    number = len(job.hashes)
    return {"jobs": 1, "tasks": number, "attempts": 2 * number, "events": 2 * number, "live_logs": 1}


@pytest.fixture
def world(database: Database, seaweedfs: SeaweedFs) -> World:
    world = World(database=database, aws=_aws(seaweedfs))
    world.bucket.ensure_exists()
    world.bucket.delete(world.objects())
    return world


@functools.cache
def _bucket(aws: AwsSettings) -> Bucket:
    """One for all tests: setting a client up takes longer than most of them."""
    return Bucket.of(aws)


def _aws(seaweedfs: SeaweedFs) -> AwsSettings:
    return AwsSettings(
        access_key=seaweedfs.access_key,
        secret_key=seaweedfs.secret_key,
        endpoint_url=seaweedfs.endpoint_url,
        public_url=None,
        region=seaweedfs.region,
        bucket=BUCKET,
    )


def test_only_jobs_that_ended_long_ago_go(world: World) -> None:
    gone = [Given(job_id="old", hashes=["a" * 40] * 3), Given(job_id="older", days_ago=400)]
    kept = [
        Given(job_id="young", days_ago=29),
        Given(job_id="running", state="running", days_ago=4000),
        Given(job_id="submitting", state="submitting", days_ago=4000),
    ]
    world.write(*gone, *kept)

    report = world.prune()

    assert (report.jobs, report.attempts, report.results.objects, report.results.size_bytes) == (2, 8, 16, 48)
    assert world.rows() == {job.job_id: dict.fromkeys(TABLES, 0) for job in gone} | {
        job.job_id: _rows_of(job) for job in kept
    }
    assert world.objects() == {key for job in kept for key in _keys_of(job)}
    assert world.prune() == Report()


def test_a_job_of_many_rows_goes_whole(world: World) -> None:
    world.write(Given(job_id="big", hashes=["a" * 40] * (ROWS_AT_ONCE + 1)), objects=False)

    assert world.prune().attempts == 2 * ROWS_AT_ONCE + 2
    assert world.rows()["big"] == dict.fromkeys(TABLES, 0)


def test_a_dry_run_changes_nothing_and_finds_what_the_run_removes(world: World) -> None:
    world.write(Given(job_id="old"), Given(job_id="young", days_ago=1))
    rows, objects = world.rows(), world.objects()

    announced = world.prune(is_dry=True)

    assert (world.rows(), world.objects()) == (rows, objects)
    assert world.prune() == announced


def test_objects_without_a_job_go_when_they_are_old(world: World) -> None:
    world.write(Given(job_id="running", state="running"))
    lost = [result_key("lost", "a.0", 0, 1, "stdout"), result_key("lost", "a.0", 0, 2, "stderr")]
    for key in lost:
        world.bucket.put_file(key, io.BytesIO(b"log"))
    before = world.objects()

    assert world.prune(timedelta(minutes=1)).orphans.objects == 0
    assert world.objects() == before
    wait(lambda: world.prune(timedelta(seconds=1), is_dry=True).orphans.objects == 2)
    world.bucket.put_file(lost[1], io.BytesIO(b"of a new job"))
    assert world.prune(timedelta(seconds=1)).orphans.objects in (1, 2)  # 2: storing it took longer
    assert lost[0] not in world.objects()
    assert before - set(lost) <= world.objects()


def test_a_job_may_be_called_as_the_folder_of_the_blobs(world: World) -> None:
    blobs = {"isolate/default-gzip/" + "b" * 40, "isolate/stdout", "isolate-notice.json"}
    for key in blobs:
        world.bucket.put_file(key, io.BytesIO(b"blob"))
    world.write(Given(job_id="isolate"))

    assert world.prune().results.objects == 4

    wait(lambda: world.prune(timedelta(0)) == Report())
    assert world.objects() == blobs


def test_expected_durations_stay_for_a_year(world: World) -> None:
    with world.database.engine.begin() as connection:
        for name, days in (("old", 401), ("kept", 399)):
            connection.execute(
                text(
                    "INSERT INTO durations (duration_key, project, description, expected_seconds, runs, updated_at)"
                    " VALUES (:name, 'p', :name, 1, 1, UTC_TIMESTAMP(6) - INTERVAL :days DAY)"
                ),
                {"name": name, "days": days},
            )

    assert world.prune(is_dry=True).durations == world.prune().durations == 1
    with world.database.engine.begin() as connection:
        assert connection.execute(text("SELECT description FROM durations")).scalars().all() == ["kept"]


def test_a_run_that_is_killed_anywhere_is_finished_by_the_next(world: World) -> None:
    jobs = [Given(job_id=f"job-{number}", hashes=["a" * 40] * 2) for number in range(3)]
    world.write(*jobs, Given(job_id="live", state="running"))
    killed = 0
    while (code := _prune_until_killed(world, fences=killed + 1)) != 0:
        assert code == -signal.SIGKILL
        killed += 1
        _assert_that_nothing_is_out_of_reach(world, jobs)

    assert killed > 5
    assert world.rows() == {job.job_id: dict.fromkeys(TABLES, 0) for job in jobs} | {
        "live": _rows_of(Given(job_id="live"))
    }
    assert world.objects() == set(_keys_of(Given(job_id="live")))


def _assert_that_nothing_is_out_of_reach(world: World, jobs: Sequence[Given]) -> None:
    objects = world.objects()
    for job in jobs:
        rows = world.rows()[job.job_id]
        if any(rows[name] < count for name, count in _rows_of(job).items()):
            assert not any(key.startswith(f"{job.job_id}/") for key in objects)
        assert rows["jobs"] == 1 or rows == dict.fromkeys(TABLES, 0)


def _prune_until_killed(world: World, *, fences: int) -> int | None:
    process = multiprocessing.get_context("spawn").Process(
        target=_prune_with_an_end, args=(world.database.settings, world.aws, fences)
    )
    process.start()
    process.join(60)
    return process.exitcode


def _prune_with_an_end(mysql: MysqlSettings, aws: AwsSettings, fences: int) -> None:
    left = iter(range(fences))

    def fence() -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    database = Database(mysql, pool_size=1)
    Prune(Retention(database), Bucket.of(aws), fence=fence, is_dry=False).run(LIMIT, lambda *_: None)


# The command.


def _run(world: World, account: MysqlSettings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    mysql, aws = account, world.aws
    environ = {
        **{"PATH": os.environ["PATH"], "HOME": "/nonexistent", "BEANSTALK_HOST": "unused"},
        **{"MYSQL_HOST": mysql.host, "MYSQL_PORT": str(mysql.port), "MYSQL_DB": mysql.database},
        **{"MYSQL_USER": mysql.user, "MYSQL_PWD": mysql.password},
        **{"AWS_ACCESS_KEY": aws.access_key, "AWS_SECRET_KEY": aws.secret_key, "TEST_RESULT_BUCKET": aws.bucket},
        "AWS_ENDPOINT_URL": str(aws.endpoint_url),
    }
    command = [beside_python("dist-test-master"), "prune", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_lists_what_it_then_removes(world: World, accounts: Mapping[str, MysqlSettings]) -> None:
    world.write(Given(job_id="old"), Given(job_id="young", days_ago=1))

    listed = _run(world, accounts[OWNER], "--older-than", "30d", "--dry-run").stdout
    announced, done = (
        json.loads(_run(world, accounts[OWNER], "--older-than", "30d", "--json", *options).stdout)
        for options in (["--dry-run"], [])
    )

    assert listed.startswith("old  ann  ended ")
    assert "would remove 1 job with 2 attempts and 4 objects, 0.0 MB; without a job 0 objects" in listed
    assert announced | {"dry_run": False} == done
    assert [job["job_id"] for job in done["jobs"]] == ["old"]
    again = _run(world, accounts[OWNER], "--older-than", "30d")
    assert again.stdout.startswith("removed 0 jobs with 0 attempts")
    assert world.rows()["young"] == _rows_of(Given(job_id="young"))


def test_one_run_at_a_time(world: World, accounts: Mapping[str, MysqlSettings]) -> None:
    world.write(Given(job_id="old"))
    other = Leadership(world.database, LOCK)
    assert other.holds()
    try:
        done = _run(world, accounts[OWNER], "--older-than", "30d")
    finally:
        other.resign()

    assert (done.returncode, done.stdout) == (0, "Another run is pruning at this moment; nothing was done.\n")
    assert world.rows()["old"] == _rows_of(Given(job_id="old"))


def test_a_master_s_account_may_not_prune(world: World, accounts: Mapping[str, MysqlSettings]) -> None:
    world.write(Given(job_id="old"))
    done = _run(world, accounts["master"], "--older-than", "30d")

    assert done.returncode == 1
    assert "DELETE command denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert world.rows()["old"]["jobs"] == 1


@pytest.mark.parametrize("age", ["0d", "30", "-1d", "59m", "1.5d", "30 d", ""])
def test_an_age_that_is_none_is_refused(world: World, accounts: Mapping[str, MysqlSettings], age: str) -> None:
    done = _run(world, accounts[OWNER], f"--older-than={age}")

    assert done.returncode == 2
    assert "is no age; give an age such as 12h, 30d or 8w, from 1h on" in done.stderr


# Both prunes together.

NAMES = tuple("abcdef")
STATES = ("finished", "finished", "running", "submitting")
JOBS = st.lists(
    st.tuples(
        st.sampled_from(STATES),
        st.floats(0.1, 60),
        st.lists(st.sampled_from(range(4)), min_size=1, max_size=2),
        st.one_of(st.none(), st.floats(0, 50)),
    ),
    min_size=1,
    max_size=6,
)
# A document is its files and the documents, of lower numbers, that it includes.
DOCUMENTS = st.tuples(
    *(
        st.tuples(
            st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(range(number))) if number else st.just(set())
        )
        for number in range(4)
    )
)


@dataclass(kw_only=True)
class Blobs:
    """Documents and files that jobs share, in a store on disk."""

    root: Path
    names: dict[int, str] = field(default_factory=dict)
    closures: dict[int, set[str]] = field(default_factory=dict)

    @property
    def store(self) -> DiskStore:
        return DiskStore(self.root)

    def put(self, content: bytes) -> str:
        digest = digest_bytes(content)
        self.store.put(GZIP, digest, None, [zlib.compress(content)])
        return digest

    def write(self, documents: Sequence[tuple[set[str], set[int]]]) -> None:
        """Write them, all so old that nothing but a job or a question keeps them."""
        for number, (names, includes) in enumerate(documents):
            files = {name: {"h": self.put(name.encode()), "s": 1} for name in sorted(names)}
            document: dict[str, Any] = {"files": files, "number": number}
            if includes:
                document["includes"] = [self.names[one] for one in sorted(includes)]
            self.names[number] = self.put(json.dumps(document).encode())
            inner = set[str]().union(*(self.closures[one] for one in includes))
            self.closures[number] = {self.names[number], *inner, *(str(file["h"]) for file in files.values())}
        self.age(self.all(), 100)

    def age(self, digests: set[str], days: float) -> None:
        for digest in digests:
            os.utime(self._path(digest), (time.time() - days * 86400,) * 2)

    def ask(self, number: int, days_ago: float) -> None:
        """As if a client had asked for a document and all in it."""
        for digest in self.closures[number]:
            if time.time() - self._path(digest).stat().st_mtime > days_ago * 86400:
                self.age({digest}, days_ago)

    def all(self) -> set[str]:
        return {blob.digest for blob in self.store.records()}

    def prune(self, database: Database, *, is_dry: bool) -> tuple[BlobReport, set[str]]:
        told: set[str] = set()
        prune = BlobPrune(self.store, UsedHashes(database), fence=lambda: None, is_dry=is_dry)
        return prune.run(LIMIT, lambda blob: told.add(blob.digest)), told

    def _path(self, digest: str) -> Path:
        return self.root / "blobs" / GZIP / digest[:2] / digest


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=JOBS, documents=DOCUMENTS)
def test_what_jobs_that_stay_need_stays_and_what_is_old_besides_goes(
    jobs: list[tuple[str, float, list[int], float | None]],
    documents: tuple[tuple[set[str], set[int]], ...],
    migrated_database: Database,
    seaweedfs: SeaweedFs,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    empty_tables(migrated_database)
    world = World(database=migrated_database, aws=_aws(seaweedfs))
    world.bucket.ensure_exists()
    world.bucket.delete(world.objects())
    blobs = Blobs(root=tmp_path_factory.mktemp("store"))
    blobs.write(documents)
    written = []
    for place, (state, days_ago, roots, asked_days_ago) in enumerate(jobs):
        if asked_days_ago is not None:
            for number in roots:
                blobs.ask(number, asked_days_ago)
        hashes = [blobs.names[number] for number in roots]
        written.append((Given(job_id=f"job-{place}", state=state, days_ago=days_ago, hashes=hashes), roots))
    world.write(*(job for job, _ in written))

    announced = world.prune(is_dry=True)
    assert world.prune() == announced
    doomed = blobs.prune(migrated_database, is_dry=True)
    before = blobs.all()
    old = {blob.digest for blob in blobs.store.records() if blob.is_older_than(LIMIT + timedelta(days=1))}
    assert blobs.prune(migrated_database, is_dry=False) == doomed

    needed = {digest for job, roots in written if job.stays for number in roots for digest in blobs.closures[number]}
    assert doomed[1] == old - needed
    assert blobs.all() == before - doomed[1]
    for job, _ in written:
        assert world.rows()[job.job_id] == (_rows_of(job) if job.stays else dict.fromkeys(TABLES, 0))
    assert world.objects() == {key for job, _ in written if job.stays for key in _keys_of(job)}


def test_the_account_of_the_isolate_server_reads_what_it_needs(
    world: World, accounts: Mapping[str, MysqlSettings]
) -> None:
    world.write(Given(job_id="old", hashes=["b" * 40]), Given(job_id="running", state="running", days_ago=400))
    restricted = Database(accounts["isolate"], pool_size=1)
    try:
        restricted.check_schema()
        hashes = UsedHashes(restricted)
        assert set(hashes.of_all_jobs()) == {"a" * 40, "b" * 40}
        assert set(hashes.of_live_jobs(submitted_within=timedelta(hours=1))) == {"a" * 40}
        assert set(hashes.of_live_jobs(submitted_within=timedelta(days=50))) == {"a" * 40, "b" * 40}
    finally:
        restricted.close()


def _run_isolate(store: str, account: MysqlSettings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {
        **{"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DIST_TEST_ISOLATE_SERVER_STORE": store},
        **{"MYSQL_HOST": account.host, "MYSQL_PORT": str(account.port), "MYSQL_DB": account.database},
        **{"MYSQL_USER": account.user, "MYSQL_PWD": account.password},
        **{"AWS_ACCESS_KEY": "none", "AWS_SECRET_KEY": "none", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
    }
    command = [beside_python("dist-test-isolate"), "prune", "--older-than", "30d", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_about_blobs_lists_what_it_then_removes(
    world: World, accounts: Mapping[str, MysqlSettings], tmp_path: Path
) -> None:
    blobs = Blobs(root=tmp_path)
    needed, unused = blobs.put(b"needed"), blobs.put(b"unused")
    blobs.age({needed, unused}, 100)
    world.write(Given(job_id="running", state="running", hashes=[needed]), objects=False)
    run = functools.partial(_run_isolate, f"disk:{tmp_path}", accounts["isolate"])

    listed, announced = run("--dry-run").stdout, json.loads(run("--dry-run", "--json").stdout)
    assert blobs.all() == {needed, unused}
    done = json.loads(run("--json").stdout)

    assert listed.startswith(f"{GZIP}/{unused}  14 bytes  ")
    assert announced | {"dry_run": False} == done
    assert [blob["digest"] for blob in done["blobs"]] == [unused]
    assert blobs.all() == {needed}
    other = Leadership(world.database, BLOBS_LOCK)
    assert other.holds()
    try:
        assert run().stdout == "Another run is pruning at this moment; nothing was done.\n"
    finally:
        other.resign()


@pytest.mark.parametrize(("store", "port"), [("disk", 1), ("s3:none", None)], ids=["no database", "no store"])
def test_blobs_stay_when_something_does_not_answer(
    world: World, accounts: Mapping[str, MysqlSettings], tmp_path: Path, store: str, port: int | None
) -> None:
    blobs = Blobs(root=tmp_path)
    blobs.age({blobs.put(b"old")}, 100)
    account = accounts["isolate"]
    done = _run_isolate(
        f"disk:{tmp_path}" if store == "disk" else store, account if port is None else replace(account, port=port)
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("dist-test-isolate: ")
    assert "Traceback" not in done.stderr
    assert len(blobs.all()) == 1
