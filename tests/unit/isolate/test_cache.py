"""The blob cache, with a strict stand-in for the isolate server's client."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dist_test.errors import BlobNotFound, CacheFull, DigestMismatch, InvalidIsolated
from dist_test.isolate.cache import BlobCache, CacheLimits
from dist_test.isolate.cache_limits import Entry, Room, choose_victims
from dist_test.isolate.digest import digest_bytes
from dist_test.isolate.format import Isolated, TreeFile, emit_isolated

WIDE = CacheLimits(max_bytes=10**9, min_free_bytes=0, max_items=10**6)
DEADLINE_SECONDS = 20


class FakeSource:
    """Holds blobs; checks what the cache may ask of a client; counts fetches; can be told to wait or to fail."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.fetches: Counter[str] = Counter()
        self.gate: threading.Event | None = None
        self.failures: list[Exception] = []
        self._lock = threading.Lock()

    def add(self, content: bytes) -> str:
        self.blobs[digest_bytes(content)] = content
        return digest_bytes(content)

    def add_tree(self, *contents: bytes, includes: Sequence[str] = ()) -> str:
        files = tuple(
            TreeFile(path=self.add(content)[:12], digest=self.add(content), size_bytes=len(content))
            for content in contents
        )
        return self.add(emit_isolated(Isolated(command=("x",), files=files, includes=tuple(includes))))

    def fetch(self, digest: str, destination: Path, *, size_bytes: int | None = None) -> int:
        assert destination.is_file()
        with self._lock:
            self.fetches[digest] += 1
            failure = self.failures.pop() if self.failures else None
        if self.gate is not None:
            assert self.gate.wait(DEADLINE_SECONDS)
        if digest not in self.blobs:
            raise BlobNotFound(digest)
        content = self.blobs[digest]
        if failure is not None:
            destination.write_bytes(content[:1])
            raise failure
        if size_bytes not in (None, len(content)):
            raise DigestMismatch(digest)
        destination.write_bytes(content)
        return len(content)


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def open_cache(root: Path, source: FakeSource) -> Iterator[Callable[[CacheLimits], BlobCache]]:
    """Makes caches of the same directory, as several processes would."""
    caches: list[BlobCache] = []

    def make(limits: CacheLimits = WIDE) -> BlobCache:
        caches.append(BlobCache(root, source, limits))
        return caches[-1]

    yield make
    for cache in caches:
        cache.close()


@pytest.fixture
def cache(open_cache: Callable[[CacheLimits], BlobCache]) -> BlobCache:
    return open_cache(WIDE)


def limits(*, size_bytes: int = 10**9, items: int = 10**6) -> CacheLimits:
    return CacheLimits(max_bytes=size_bytes, max_items=items, min_free_bytes=0)


def fetch_all(cache: BlobCache, isolated_hash: str) -> dict[str, bytes]:
    with cache.checkout(isolated_hash) as cached:
        digests = [file.digest for file in cached.tree.files if file.digest is not None]
        return {digest: cached.blob_path(digest).read_bytes() for digest in digests}


def blob_files(root: Path) -> dict[str, Path]:
    return {path.name: path for path in (root / "blobs").glob("*/*")}


def age(root: Path, digest: str, seconds: float) -> None:
    path = blob_files(root)[digest]
    used = time.time() - seconds
    os.utime(path, (used, path.stat().st_mtime))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.005)


def test_checkout_gives_the_tree_its_document_and_its_files(cache: BlobCache, source: FakeSource) -> None:
    shared = source.add_tree(b"shared")
    root_hash = source.add_tree(b"one", b"", includes=[shared])
    with cache.checkout(root_hash) as cached:
        assert cached.isolated == source.blobs[root_hash]
        assert cached.tree.command == ("x",)
        contents = {cached.blob_path(f.digest).read_bytes() for f in cached.tree.files if f.digest}
    assert contents == {b"one", b"", b"shared"}


def test_what_is_there_is_not_fetched_again(cache: BlobCache, source: FakeSource) -> None:
    root_hash = source.add_tree(b"one", b"two")
    fetch_all(cache, root_hash)
    fetch_all(cache, root_hash)
    fetch_all(cache, source.add_tree(b"two", b"three"))
    assert set(source.fetches.values()) == {1}


def test_blobs_survive_a_restart(open_cache: Callable[..., BlobCache], source: FakeSource) -> None:
    root_hash = source.add_tree(b"one", b"two")
    fetch_all(open_cache(), root_hash)
    fetch_all(open_cache(), root_hash)
    assert set(source.fetches.values()) == {1}


def test_task_users_may_read_a_blob_they_know_and_list_nothing(
    cache: BlobCache, source: FakeSource, root: Path
) -> None:
    fetch_all(cache, source.add_tree(b"one"))
    modes = {path: path.stat().st_mode & 0o777 for path in root.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file() and "blobs" in path.parts} == {0o444}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o711, 0o700}
    assert (modes[root / "pins"], modes[root / "incoming"], modes[root / "blobs"]) == (0o700, 0o700, 0o711)


@pytest.mark.parametrize("damage", [b"", b"longer than it was"], ids=["emptied", "longer"])
def test_a_damaged_file_is_replaced(cache: BlobCache, source: FakeSource, root: Path, damage: bytes) -> None:
    root_hash = source.add_tree(b"one")
    fetch_all(cache, root_hash)
    path = blob_files(root)[digest_bytes(b"one")]
    path.unlink()
    path.write_bytes(damage)
    assert fetch_all(cache, root_hash) == {digest_bytes(b"one"): b"one"}


def test_a_document_of_the_right_size_and_wrong_content_is_replaced(
    open_cache: Callable[..., BlobCache], source: FakeSource, root: Path
) -> None:
    root_hash = source.add_tree(b"one")
    fetch_all(open_cache(), root_hash)
    path = blob_files(root)[root_hash]
    path.chmod(0o600)
    path.write_bytes(b" " * path.stat().st_size)
    assert fetch_all(open_cache(), root_hash)


@pytest.mark.parametrize("text", ["", "../x", "A" * 40, "a" * 39])
def test_what_is_no_hash_is_refused(cache: BlobCache, text: str) -> None:
    with pytest.raises(InvalidIsolated), cache.checkout(text):
        pass


def test_a_tree_that_leads_out_of_its_directory_is_refused_before_its_files_are_fetched(
    cache: BlobCache, source: FakeSource
) -> None:
    blob = source.add(b"content")
    files = (TreeFile(path="a", digest=blob, size_bytes=7), TreeFile(path="l", link="../x"))
    with pytest.raises(InvalidIsolated), cache.checkout(source.add(emit_isolated(Isolated(files=files)))):
        pass
    assert source.fetches[blob] == 0


def test_a_missing_blob_is_an_error_and_leaves_nothing(cache: BlobCache, source: FakeSource, root: Path) -> None:
    root_hash = source.add_tree(b"one", b"two")
    del source.blobs[digest_bytes(b"one")]
    with pytest.raises(BlobNotFound), cache.checkout(root_hash):
        pass
    assert not list((root / "incoming").iterdir())
    assert digest_bytes(b"one") not in blob_files(root)


def test_two_threads_that_miss_a_blob_fetch_it_once(open_cache: Callable[..., BlobCache], source: FakeSource) -> None:
    root_hash = source.add_tree(*(b"%d" % number for number in range(20)))
    caches = [open_cache(), open_cache()]
    source.gate = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(fetch_all, caches[number % 2], root_hash) for number in range(8)]
        wait_until(lambda: source.fetches[root_hash] == 1)
        source.gate.set()
        assert all(len(future.result(DEADLINE_SECONDS)) == 20 for future in futures)
    assert set(source.fetches.values()) == {1}


def test_a_waiter_fetches_by_itself_when_the_first_one_fails(cache: BlobCache, source: FakeSource) -> None:
    root_hash = source.add_tree(b"one")
    source.gate = threading.Event()
    source.failures = [DigestMismatch("the first of them fails")]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(fetch_all, cache, root_hash) for _ in range(2)]
        wait_until(lambda: source.fetches[root_hash] == 1)
        source.gate.set()
        errors = [future.exception(DEADLINE_SECONDS) for future in futures]
    assert sorted(error is None for error in errors) == [False, True]


def test_the_blobs_used_longest_ago_are_dropped(
    open_cache: Callable[..., BlobCache], source: FakeSource, root: Path
) -> None:
    trees = {name: source.add_tree(name) for name in (b"old", b"used", b"new")}
    cache = open_cache(limits(items=4))
    for name in (b"old", b"used"):
        fetch_all(cache, trees[name])
        for digest in (trees[name], digest_bytes(name)):
            age(root, digest, 100)
    fetch_all(cache, trees[b"used"])
    restarted = open_cache(limits(items=4))
    fetch_all(restarted, trees[b"new"])
    assert digest_bytes(b"used") in blob_files(root)
    assert digest_bytes(b"old") not in blob_files(root)


def test_the_cache_never_holds_more_than_its_limits(
    open_cache: Callable[..., BlobCache], source: FakeSource, root: Path
) -> None:
    cache = open_cache(limits(size_bytes=5_000, items=12))
    for number in range(30):
        fetch_all(cache, source.add_tree(b"%d" % number * 200, b"a%d" % number * 200))
        sizes = [path.stat().st_size for path in blob_files(root).values()]
        assert sum(sizes) <= 5_000
        assert len(sizes) <= 12


def test_an_open_checkout_keeps_its_blobs(open_cache: Callable[..., BlobCache], source: FakeSource, root: Path) -> None:
    cache, other = open_cache(limits(items=4)), open_cache(limits(items=4))
    kept = source.add_tree(b"kept")
    with cache.checkout(kept):
        for digest in (kept, digest_bytes(b"kept")):
            age(root, digest, 1000)
        for number in range(3):
            fetch_all(other, source.add_tree(b"%d" % number))
        assert {kept, digest_bytes(b"kept")} <= blob_files(root).keys()
    fetch_all(other, source.add_tree(b"3"))
    fetch_all(other, source.add_tree(b"4"))
    assert digest_bytes(b"kept") not in blob_files(root)


def test_a_tree_that_does_not_fit_is_refused_with_the_figures_and_nothing_is_dropped(
    open_cache: Callable[..., BlobCache], source: FakeSource, root: Path
) -> None:
    cache = open_cache(limits(size_bytes=2_000))
    small = source.add_tree(b"small")
    fetch_all(cache, small)
    with pytest.raises(CacheFull, match=r"2 blobs of 4000 bytes do not fit .* may hold \d+ blobs of 2000 bytes"):
        fetch_all(cache, source.add_tree(b"a" * 1999, b"b" * 2001))
    assert small in blob_files(root)
    assert fetch_all(cache, source.add_tree(b"c" * 100))


def test_room_that_was_reserved_in_vain_is_given_back(open_cache: Callable[..., BlobCache], source: FakeSource) -> None:
    cache = open_cache(limits(size_bytes=2_500))
    broken = source.add_tree(b"a" * 1500)
    del source.blobs[digest_bytes(b"a" * 1500)]
    for _ in range(3):
        with pytest.raises(BlobNotFound), cache.checkout(broken):
            pass
    assert fetch_all(cache, source.add_tree(b"b" * 1500))


def test_a_tree_that_several_checkouts_wait_for_needs_its_room_once(
    open_cache: Callable[..., BlobCache], source: FakeSource
) -> None:
    root_hash = source.add_tree(*(b"%d" % number * 1000 for number in range(5)))
    caches = [open_cache(limits(items=7)) for _ in range(2)]
    source.gate = threading.Event()
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(fetch_all, caches[number % 2], root_hash) for number in range(6)]
        wait_until(lambda: source.fetches[root_hash] == 1)
        source.gate.set()
        assert all(len(future.result(DEADLINE_SECONDS)) == 5 for future in futures)


def test_a_disk_without_the_free_space_is_a_full_cache(
    open_cache: Callable[..., BlobCache], source: FakeSource
) -> None:
    cache = open_cache(CacheLimits(max_bytes=10**9, max_items=10**6, min_free_bytes=2**60))
    with pytest.raises(CacheFull, match="must stay free"):
        fetch_all(cache, source.add_tree(b"a"))


def test_many_threads_on_a_small_cache_always_see_whole_files(
    open_cache: Callable[..., BlobCache], source: FakeSource, root: Path
) -> None:
    trees = [source.add_tree(b"common", *(b"%d/%d" % (tree, file) for file in range(5))) for tree in range(12)]
    caches = [open_cache(limits(items=40)) for _ in range(2)]

    def work(worker: int) -> None:
        for step in range(40):
            contents = fetch_all(caches[worker % 2], trees[(worker * 5 + step * 7) % 12])
            assert all(digest_bytes(content) == digest for digest, content in contents.items())

    with ThreadPoolExecutor(5) as pool:
        for future in [pool.submit(work, worker) for worker in range(5)]:
            future.result(60)
    assert len(blob_files(root)) <= 40


_OTHER_PROCESS = """
import sys, time
from pathlib import Path
from dist_test.isolate.cache import BlobCache, CacheLimits

class Source:
    def fetch(self, digest, destination, *, size_bytes=None):
        if digest == sys.argv[3]:
            destination.write_bytes(b"half")
            print("fetching", flush=True)
            time.sleep(600)
        content = Path(sys.argv[2], digest).read_bytes()
        destination.write_bytes(content)
        return len(content)

cache = BlobCache(Path(sys.argv[1]), Source(), CacheLimits(max_bytes=10**9, min_free_bytes=0, max_items=4))
with cache.checkout(sys.argv[4]):
    print("open", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other_process(
    root: Path, tmp_path: Path, source: FakeSource
) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """Starts a process that checks out a tree, or hangs in the middle of fetching one of its blobs."""
    started: list[subprocess.Popen[str]] = []

    def start(isolated_hash: str, hang_at: str = "") -> subprocess.Popen[str]:
        for digest, content in source.blobs.items():
            (tmp_path / digest).write_bytes(content)
        arguments = [sys.executable, "-c", _OTHER_PROCESS, str(root), str(tmp_path), hang_at, isolated_hash]
        started.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == ("fetching\n" if hang_at else "open\n")
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_another_processs_checkout_keeps_its_blobs_until_it_dies(
    open_cache: Callable[..., BlobCache],
    other_process: Callable[..., subprocess.Popen[str]],
    source: FakeSource,
    root: Path,
) -> None:
    kept = source.add_tree(b"kept")
    process = other_process(kept)
    for digest in (kept, digest_bytes(b"kept")):
        age(root, digest, 1000)
    cache = open_cache(limits(items=4))
    for number in range(3):
        fetch_all(cache, source.add_tree(b"%d" % number))
    assert {kept, digest_bytes(b"kept")} <= blob_files(root).keys()
    process.kill()
    process.wait()
    for number in range(3):
        fetch_all(cache, source.add_tree(b"%d" % number))
    assert digest_bytes(b"kept") not in blob_files(root)


def test_a_process_killed_while_fetching_leaves_no_wrong_blob_and_no_litter(
    open_cache: Callable[..., BlobCache],
    other_process: Callable[..., subprocess.Popen[str]],
    source: FakeSource,
    root: Path,
) -> None:
    root_hash = source.add_tree(b"content")
    process = other_process(root_hash, digest_bytes(b"content"))
    process.kill()
    process.wait()
    assert digest_bytes(b"content") not in blob_files(root)
    assert list((root / "incoming").iterdir())
    cache = open_cache()
    assert not list((root / "incoming").iterdir())
    assert not list((root / "pins").iterdir())
    assert fetch_all(cache, root_hash) == {digest_bytes(b"content"): b"content"}


def test_a_process_that_waits_for_another_which_is_killed_goes_on(
    cache: BlobCache, other_process: Callable[..., subprocess.Popen[str]], source: FakeSource
) -> None:
    root_hash = source.add_tree(b"content")
    process = other_process(root_hash, digest_bytes(b"content"))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(fetch_all, cache, root_hash)
        process.kill()
        assert future.result(DEADLINE_SECONDS) == {digest_bytes(b"content"): b"content"}


def test_blobs_that_may_not_have_reached_the_disk_are_dropped_after_a_reboot(
    open_cache: Callable[..., BlobCache], source: FakeSource, root: Path
) -> None:
    trees = [source.add_tree(name) for name in (b"written", b"unwritten")]
    for tree in trees:
        fetch_all(open_cache(), tree)
    for digest in (trees[0], digest_bytes(b"written")):
        os.utime(blob_files(root)[digest], (time.time(), time.time() - 1000))
    (root / "boot_id").write_text("another boot")
    open_cache()
    assert blob_files(root).keys() == {trees[0], digest_bytes(b"written")}


ENTRIES = [Entry(used_ns=n, arrived_ns=0, digest=f"{n}", size_bytes=10) for n in (3, 1, 2)]


@pytest.mark.parametrize(
    ("coming", "pinned", "limit", "free", "victims"),
    [
        pytest.param(Room(10, 1), "", limits(size_bytes=40), 1000, [], id="it fits"),
        pytest.param(Room(10, 1), "", limits(size_bytes=30), 1000, ["1", "2"], id="a slack is made as well"),
        pytest.param(Room(10, 1), "", limits(items=3), 1000, ["1"], id="too many"),
        pytest.param(Room(10, 1), "1", limits(items=3), 1000, ["2"], id="the oldest is pinned"),
        pytest.param(Room(10, 1), "123", limits(items=3), 1000, None, id="all are pinned"),
        pytest.param(Room(31, 1), "", limits(size_bytes=30), 1000, None, id="more than the cache"),
        pytest.param(Room(30, 1), "", limits(size_bytes=30), 1000, ["1", "2", "3"], id="all of the cache"),
        pytest.param(Room(30, 1), "", limits(), 15, ["1", "2"], id="the disk is full"),
    ],
)
def test_the_choice_of_what_to_drop(
    coming: Room, pinned: str, limit: CacheLimits, free: int, victims: list[str] | None
) -> None:
    taken = Room(30, 3).plus(coming)
    chosen = choose_victims(ENTRIES, set(pinned), taken, free - coming.size_bytes, limit)
    assert (None if chosen is None else [entry.digest for entry in chosen]) == victims
