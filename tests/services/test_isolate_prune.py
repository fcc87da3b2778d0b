"""Pruning the stores of the isolate server: what is needed stays, whoever asks for it at whatever moment."""

import json
import multiprocessing
import os
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from dist_test.errors import DatabaseUnavailable, ResultStoreUnavailable
from dist_test.isolate import store as store_module
from dist_test.isolate.digest import digest_bytes
from dist_test.isolate.notice import KEY, TERM, Notice
from dist_test.isolate.prune import Prune, Report
from dist_test.isolate.store import BlobRecord, BlobStore, DiskStore, S3Store
from dist_test.local.daemons import SeaweedFs
from dist_test.settings import AwsSettings
from dist_test.storage.results import Bucket, StoredObject

from ..farm import wait

GZIP = "default-gzip"
DAY = timedelta(days=1)
LIMIT = 30 * DAY
LONG_AGO = 40 * DAY


class AgedBucket(Bucket):
    """A bucket whose objects look older by LONG_AGO when they were stored before a time, and not renewed since."""

    stored_before = datetime(1970, 1, 1, tzinfo=UTC)

    def stat(self, key: str) -> StoredObject:
        return self._aged(super().stat(key))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        yield from map(self._aged, super().list(prefix))

    def _aged(self, stored: StoredObject) -> StoredObject:
        is_aged = stored.modified_at < self.stored_before
        return replace(stored, modified_at=stored.modified_at - LONG_AGO) if is_aged else stored


@dataclass(frozen=True, kw_only=True)
class Place:
    """How to open a store, in this process or another one."""

    disk: Path | None = None
    aws: AwsSettings | None = None

    def open(self, stored_before: datetime) -> BlobStore:
        if self.disk is not None:
            return DiskStore(self.disk)
        assert self.aws is not None
        bucket = AgedBucket.of(self.aws)
        bucket.stored_before = stored_before
        return S3Store(bucket)


@dataclass(kw_only=True)
class Shelf:
    """A store, and what a test does with it."""

    place: Place
    stored_before: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    _opened: BlobStore | None = None

    @property
    def store(self) -> BlobStore:
        if self._opened is None:
            self._opened = self.place.open(self.stored_before)
        return self._opened

    def put(self, content: bytes, namespace: str = GZIP) -> str:
        """Store a blob; give back its digest."""
        digest = digest_bytes(content)
        self.store.put(namespace, digest, len(content), [zlib.compress(content)])
        return digest

    def put_document(self, *files: str, includes: Sequence[str] = ()) -> str:
        """Store a document that names these digests."""
        entries = {f"file{number}": {"h": digest, "s": 1} for number, digest in enumerate(files)}
        document = {"version": "1.4", "algo": "sha-1", "files": entries} | ({"includes": includes} if includes else {})
        return self.put(json.dumps(document).encode())

    def age(self) -> None:
        """Make everything there is so far LONG_AGO old."""
        if self.place.disk is not None:
            for path in self.place.disk.glob("blobs/*/*/*"):
                os.utime(path, (time.time() - LONG_AGO.total_seconds(),) * 2)
            return
        newest = max((blob.renewed_at for blob in self.store.records()), default=datetime.now(UTC))
        # S3 tells whole seconds: what is renewed from now on is younger by one at least.
        self.stored_before = newest.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        self._opened = None
        wait(lambda: datetime.now(UTC) > self.stored_before)

    def digests(self) -> set[str]:
        return {blob.digest for blob in self.store.records()}


@pytest.fixture(params=["disk", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    if request.param == "disk":
        return Shelf(place=Place(disk=tmp_path / "store"))
    seaweedfs = cast(SeaweedFs, request.getfixturevalue("seaweedfs"))
    aws = AwsSettings(
        access_key=seaweedfs.access_key,
        secret_key=seaweedfs.secret_key,
        endpoint_url=seaweedfs.endpoint_url,
        public_url=None,
        region=seaweedfs.region,
        bucket=f"prune-{digest_bytes(str(tmp_path).encode())[:20]}",
    )
    Bucket.of(aws).ensure_exists()
    return Shelf(place=Place(aws=aws))


@dataclass(kw_only=True)
class FakeHashes:
    """What the database would say."""

    all: Iterable[str] = ()
    live: Iterable[str] = ()
    asked: Callable[[], object] = field(default=lambda: None)

    def of_all_jobs(self) -> Iterable[str]:
        return [*self.all, *self.live]

    def of_live_jobs(self, *, submitted_within: timedelta) -> Iterable[str]:
        assert submitted_within >= timedelta(hours=1)
        self.asked()
        return self.live


def prune(shelf: Shelf, hashes: FakeHashes | None = None, *, is_dry: bool = False) -> tuple[Report, set[str]]:
    told: list[str] = []
    run = Prune(shelf.store, hashes or FakeHashes(), fence=lambda: None, is_dry=is_dry)
    report = run.run(LIMIT, lambda blob: told.append(blob.digest))
    assert report.removed == len(told)
    return report, set(told)


def test_what_is_old_and_not_used_goes(shelf: Shelf) -> None:
    old = {shelf.put(b"old"), shelf.put(b"older")}
    shelf.age()
    young = shelf.put(b"young")

    assert prune(shelf, is_dry=True)[1] == old
    assert shelf.digests() == {*old, young}
    assert prune(shelf)[1] == old
    assert shelf.digests() == {young}
    assert prune(shelf)[1] == set()


@pytest.mark.parametrize("is_live", [True, False])
def test_what_jobs_need_stays_with_all_that_it_names(shelf: Shelf, is_live: bool) -> None:
    files = [shelf.put(b"%d" % number) for number in range(3)]
    inner = shelf.put_document(files[2])
    outer = shelf.put_document(files[1], includes=[inner])
    root = shelf.put_document(files[0], includes=[outer, inner])
    unused = {shelf.put(b"unused"), shelf.put_document(files[0])}
    shelf.age()

    assert prune(shelf, FakeHashes(live=[root]) if is_live else FakeHashes(all=[root]))[1] == unused
    assert shelf.digests() == {*files, inner, outer, root}


def test_a_young_document_of_a_live_job_keeps_old_files(shelf: Shelf) -> None:
    """As of a client that has remembered which files it sent."""
    file = shelf.put(b"sent long ago")
    shelf.age()
    root = shelf.put_document(file)

    assert prune(shelf, FakeHashes(live=[root]))[1] == set()


def test_a_question_makes_a_blob_young(shelf: Shelf) -> None:
    asked, other = shelf.put(b"asked for"), shelf.put(b"not asked for")
    shelf.age()

    assert shelf.store.contains(GZIP, [asked]) == {asked}
    assert prune(shelf)[1] == {other}
    assert shelf.store.contains(GZIP, [asked, other]) == {asked}


def test_a_question_between_the_look_and_the_removal_keeps_the_blob(shelf: Shelf) -> None:
    asked, other = shelf.put(b"asked for"), shelf.put(b"not asked for")
    shelf.age()
    found = FakeHashes(asked=lambda: shelf.store.contains(GZIP, [asked]))

    assert prune(shelf, found)[1] == {other}
    assert shelf.digests() == {asked}


def test_a_job_that_is_submitted_while_pruning_keeps_its_blobs(shelf: Shelf) -> None:
    file = shelf.put(b"file")
    root = shelf.put_document(file)
    shelf.age()
    found = FakeHashes()
    found.asked = lambda: setattr(found, "live", [root])

    assert prune(shelf, found)[1] == set()
    assert shelf.digests() == {file, root}


@pytest.mark.parametrize("content", [b"no document", b"[]", b'{"files": 3, "includes": 7}', b"[" * 10_000])
def test_what_is_no_document_names_nothing(shelf: Shelf, content: bytes) -> None:
    root, other = shelf.put(content), shelf.put(b"other")
    shelf.age()

    assert prune(shelf, FakeHashes(live=[root, "0" * 40]))[1] == {other}


def test_a_damaged_document_names_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(place=Place(disk=tmp_path))
    file = shelf.put(b"file")
    root = shelf.put_document(file)
    next(tmp_path.glob(f"blobs/*/*/{root}")).write_bytes(b"noise")
    shelf.age()

    assert prune(shelf, FakeHashes(live=[root]))[1] == {file}
    assert root in caplog.text


def test_a_document_that_includes_itself_is_read_once(shelf: Shelf) -> None:
    # Digests of such documents cannot be made, so the reader is asked by itself.
    from dist_test.isolate.references import references

    found = references(b'{"includes": ["a", "a"], "files": {"x": {"h": "b"}, "y": {"l": "z"}, "w": 1, "v": {"h": 2}}}')
    assert found is not None
    assert sorted(found.files) == ["b"]
    assert sorted(found.includes) == ["a"]


def test_nothing_is_removed_when_a_document_cannot_be_read(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    root, other = shelf.put_document(shelf.put(b"file")), shelf.put(b"other")
    shelf.age()

    def fail(*_: object) -> None:
        raise ResultStoreUnavailable("down")

    before = shelf.digests()
    for kind in (DiskStore, S3Store):
        monkeypatch.setattr(kind, "open", fail)
    with pytest.raises(ResultStoreUnavailable):
        prune(shelf, FakeHashes(live=[root]))
    assert shelf.digests() == before
    assert other in before


def test_nothing_is_removed_once_the_lock_is_lost(shelf: Shelf) -> None:
    shelf.put(b"old")
    shelf.age()
    is_lost = threading.Event()

    def fence() -> None:
        if is_lost.is_set():
            raise DatabaseUnavailable("lost")

    run = Prune(shelf.store, FakeHashes(asked=is_lost.set), fence=fence, is_dry=False)
    with pytest.raises(DatabaseUnavailable):
        run.run(LIMIT, lambda _: None)
    assert len(shelf.digests()) == 1


def test_a_blob_that_may_be_about_to_go_is_not_promised(seaweedfs: SeaweedFs, tmp_path: Path) -> None:
    """The pruner has found the blob old, and a question comes before it deletes."""
    shelf = _s3_shelf(seaweedfs, tmp_path)
    digest = shelf.put(b"content")
    shelf.age()
    store = cast(S3Store, shelf.store)
    delete = store._bucket.delete
    answers: list[set[str]] = []
    asking = threading.Thread(target=lambda: answers.append(shelf.store.contains(GZIP, [digest])))

    def delete_late(keys: Iterable[str], *, once: bool = False) -> None:
        keys = list(keys)
        if keys != [KEY]:
            asking.start()
            wait(lambda: _is_renewed(shelf, digest))  # the question has made it young, too late
            assert not answers
        delete(keys, once=once)

    store._bucket.delete = delete_late  # type: ignore[method-assign]  # to come in between
    removed = store.remove_old(list(store.records()), LIMIT)
    asking.join()

    assert [blob.digest for blob in removed] == [digest]
    assert answers == [set()]


def test_a_file_that_is_about_to_go_is_not_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on a disk: the question waits for the lock."""
    shelf = Shelf(place=Place(disk=tmp_path))
    digest = shelf.put(b"content")
    shelf.age()
    answers: list[set[str]] = []
    asking = threading.Thread(target=lambda: answers.append(shelf.store.contains(GZIP, [digest])))
    look = store_module._age

    def look_late(path: Path) -> timedelta:
        age = look(path)
        if threading.current_thread() is not asking:
            asking.start()
            asking.join(0.3)  # time for a wrong answer; the right one comes only when we are done
        return age

    monkeypatch.setattr(store_module, "_age", look_late)
    removed = shelf.store.remove_old(list(shelf.store.records()), LIMIT)
    asking.join()

    assert [blob.digest for blob in removed] == [digest]
    assert answers == [set()]


def _s3_shelf(seaweedfs: SeaweedFs, tmp_path: Path) -> Shelf:
    aws = AwsSettings(
        access_key=seaweedfs.access_key,
        secret_key=seaweedfs.secret_key,
        endpoint_url=seaweedfs.endpoint_url,
        public_url=None,
        region=seaweedfs.region,
        bucket=f"prune-{digest_bytes(str(tmp_path).encode())[:20]}",
    )
    Bucket.of(aws).ensure_exists()
    return Shelf(place=Place(aws=aws))


def _is_renewed(shelf: Shelf, digest: str) -> bool:
    return any(blob.digest == digest and not blob.is_older_than(DAY) for blob in shelf.store.records())


def test_the_notice_of_a_killed_pruner_counts_for_a_while(seaweedfs: SeaweedFs, tmp_path: Path) -> None:
    bucket = cast(S3Store, _s3_shelf(seaweedfs, tmp_path).store)._bucket
    pauses: list[float] = []
    clock = iter(range(0, 1000, 5))
    notice = Notice(bucket, clock=lambda: next(clock), sleep=pauses.append)
    with pytest.raises(KeyboardInterrupt), notice.given(["a"]):
        raise KeyboardInterrupt

    notice.wait_until_over("b")
    assert pauses == []
    with pytest.raises(ResultStoreUnavailable, match="may be about to be deleted"):
        notice.wait_until_over("a")
    # Once its term is over it says nothing any more, and the next one may be written.
    short = Notice(bucket, term=timedelta(seconds=1))
    wait(lambda: not short._keys())
    short.wait_until_over("a")
    with short.given(["c"]):
        assert short._keys() == ["c"]
    assert short._keys() == ()


def test_a_pruner_that_was_frozen_deletes_nothing(seaweedfs: SeaweedFs, tmp_path: Path) -> None:
    bucket = cast(S3Store, _s3_shelf(seaweedfs, tmp_path).store)._bucket
    times = iter([0.0, TERM.total_seconds() / 2 - 1, TERM.total_seconds() / 2 + 1])
    with Notice(bucket, clock=lambda: next(times)).given(["a"]) as check:
        check()
        with pytest.raises(ResultStoreUnavailable, match="too long"):
            check()


MEETINGS = 3
MOST_ROUNDS = 20
BLOBS = 60


def test_whoever_was_told_that_a_blob_is_there_finds_it_there(shelf: Shelf) -> None:
    """Another process prunes, and three threads ask, about the same old blobs in orders of their own."""
    chance = random.Random(1)
    meetings = 0
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other:
        for _ in range(MOST_ROUNDS):
            digests = [shelf.put(b"%d" % number) for number in range(BLOBS)]
            shelf.age()
            begin_at = time.time() + 0.5
            pruning = other.submit(_prune_elsewhere, shelf.place, shelf.stored_before, begin_at)
            _spin_until(begin_at)
            with ThreadPoolExecutor(3) as askers:
                orders = [chance.sample(digests, BLOBS) for _ in range(3)]
                told = set().union(*askers.map(lambda order: _ask(shelf, order), orders))
            removed = pruning.result(timeout=120)
            assert told <= shelf.digests()
            # One of them may have been done before the other began.
            meetings += 0 < removed < BLOBS
            if meetings == MEETINGS:
                return
    assert meetings > 0


def _spin_until(moment: float) -> None:
    """Spin: two processes that sleep do not wake within the same millisecond."""
    while time.time() < moment:
        pass


def _ask(shelf: Shelf, digests: Sequence[str]) -> set[str]:
    store, told = shelf.store, set[str]()
    for digest in digests:
        told |= store.contains(GZIP, [digest])
    return told


def _prune_elsewhere(place: Place, stored_before: datetime, begin_at: float) -> int:
    store = place.open(stored_before)
    blobs = list(store.records())
    random.Random(2).shuffle(blobs)
    _spin_until(begin_at)
    return sum(len(store.remove_old(page, LIMIT)) for page in _tens(blobs))


def _tens(blobs: Sequence[BlobRecord]) -> Iterator[Sequence[BlobRecord]]:
    yield from (blobs[start : start + 10] for start in range(0, len(blobs), 10))


def test_blobs_of_all_namespaces_are_looked_at(shelf: Shelf) -> None:
    content = b"the same"
    digest = shelf.put(content)
    shelf.put(content, "other-gzip")
    root = shelf.put_document(digest)
    shelf.age()

    assert prune(shelf, FakeHashes(live=[root]))[1] == set()
    assert prune(shelf)[0].removed == 3


def test_marks_of_finished_jobs_do_not_read_young_documents(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """With months of jobs there are millions of documents, and nearly all are young when they are looked at."""
    shelf.put(b"old")
    shelf.age()
    young = shelf.put_document(shelf.put(b"file"))
    opened: list[Mapping[str, object]] = []
    for kind in (DiskStore, S3Store):
        monkeypatch.setattr(kind, "open", lambda *arguments: opened.append({"opened": arguments}))

    prune(shelf, FakeHashes(all=[young]))
    assert opened == []
