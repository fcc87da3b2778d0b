"""`dist-test-isolate prune`: remove the blobs that no job needs and nobody has asked for in a long time.

1. Old blobs are those that nobody has sent, or asked whether they are there, for longer than the age (store.py).
2. Used are the isolate hashes of all jobs in the database, and what their documents name, in whatever namespace.
   Of jobs that are not finished every document is read; of the others those that are old themselves: whoever sends or
   asks for a document asks for what it names, so what a young one names is young.
3. Old blobs that are not used are removed, some at a time. Before each time the live jobs are asked for again, since a
   job that ran long ago may just have been submitted once more; and the store looks at each age again, since somebody
   may have asked for the blob.

A document that is damaged or none at all names nothing. When the store or the database does not answer, the run ends
before it removes what it could not judge. A dry run does the same and leaves out the removals.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Protocol, TypeVar

from dist_test.errors import BlobNotFound, DigestMismatch, IsolateError
from dist_test.isolate.format import MAX_ISOLATED_BYTES
from dist_test.isolate.references import References, references
from dist_test.isolate.store import BlobRecord, BlobStore
from dist_test.isolate.stored_form import Decoder
from dist_test.settings import MysqlSettings
from dist_test.storage.bulk import pages
from dist_test.storage.database import Database
from dist_test.storage.leader import Leadership
from dist_test.storage.used_hashes import UsedHashes

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
Item = TypeVar("Item")

LOCK = "prune_blobs"
# Longer than any notice counts: whoever takes the lock over finds nobody at work.
_SILENCE_SECONDS = 900
# An archive of a huge tree may take that long from its first question to its last.
_SLACK = timedelta(days=1)
_SUBMIT = timedelta(hours=1)  # a job's tasks are visible at the end of its submit, which takes minutes at most
_REMOVED_AT_ONCE = 500
_FENCED_AT_ONCE = 1000
_READS_AT_ONCE = 16
_CHUNK_BYTES = 2**17


class Hashes(Protocol):
    """The isolate hashes of the jobs that are in the database."""

    def of_all_jobs(self) -> Iterable[str]: ...
    def of_live_jobs(self, *, submitted_within: timedelta) -> Iterable[str]: ...


@dataclass(kw_only=True)
class Report:
    """What a run has looked at and has removed, or would remove."""

    blobs: int = 0
    old: int = 0
    removed: int = 0
    removed_bytes: int = 0

    def __str__(self) -> str:
        return f"{self.removed} of {self.blobs} blobs, {self.removed_bytes / 1e6:.1f} MB; {self.old} were old"


@dataclass(kw_only=True)
class _Old:
    """What is old in a store. `nearly`: digests of it, and of what is nearly old and so may name what is."""

    blobs: list[BlobRecord] = field(default_factory=list)
    nearly: set[str] = field(default_factory=set)


class Marks:
    """The digests that are used: of the documents that were given, and of all that they name."""

    def __init__(self, store: BlobStore, namespaces: Iterable[str]) -> None:
        """`namespaces`: where to look for the documents; jobs name only their digests."""
        self._store = store
        self._namespaces = sorted(namespaces)
        self._read: set[str] = set()
        self._used: set[str] = set()

    def __contains__(self, digest: str) -> bool:
        return digest in self._used

    def add(self, roots: Iterable[str]) -> None:
        """Mark these documents and what they name. Raises OSError or ResultStoreUnavailable."""
        with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="mark") as pool:
            for page in pages(roots, _FENCED_AT_ONCE):
                self._add(set(page), pool)

    def _add(self, documents: set[str], pool: ThreadPoolExecutor) -> None:
        # By generations, not by depth: a document that includes itself is read once.
        while documents := documents - self._read:
            self._used |= documents
            self._read |= documents
            found = list(pool.map(self._references, documents))
            self._used.update(*(one.files for one in found))
            documents = set().union(*(one.includes for one in found))

    def _references(self, digest: str) -> References:
        found = [one for namespace in self._namespaces for one in self._look(namespace, digest)]
        return References(
            files=frozenset().union(*(one.files for one in found)),
            includes=frozenset().union(*(one.includes for one in found)),
        )

    def _look(self, namespace: str, digest: str) -> Iterator[References]:
        try:
            content = _content(self._store, namespace, digest)
        except BlobNotFound:
            return
        except DigestMismatch as exc:
            logger.warning("taken for a document that names nothing: %s", exc, extra={"action": "blob_damaged"})
            return
        if (found := references(content)) is not None:
            yield found
        else:
            logger.warning("%s is the isolate hash of a job, but no document", digest, extra={"action": "blob_odd"})


class Prune:
    """One run over a store. Raises DatabaseUnavailable, and OSError or ResultStoreUnavailable."""

    def __init__(
        self,
        store: BlobStore,
        hashes: Hashes,
        *,
        fence: Callable[[], None],
        is_dry: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fence`: called before each removal; raises when another run may have begun."""
        self._store = store
        self._hashes = hashes
        self._fence = fence
        self._is_dry = is_dry
        self._clock = clock

    def run(self, age: timedelta, tell: Callable[[BlobRecord], None]) -> Report:
        """Remove what is older than `age` and not used; `tell` each blob."""
        began = self._clock()
        report = Report()
        # A blob that is young is not made younger by a question: so much later it is certain that there was none.
        limit = age + self._store.renew_after
        old, namespaces = self._look(age, limit, report)
        if not old.blobs:
            return report
        marks = Marks(self._store, namespaces)
        marks.add(digest for digest in self._fenced(self._hashes.of_all_jobs()) if digest in old.nearly)
        for page in pages(old.blobs, _REMOVED_AT_ONCE):
            submitted_within = timedelta(seconds=self._clock() - began) + _SUBMIT
            marks.add(self._hashes.of_live_jobs(submitted_within=submitted_within))
            self._remove([blob for blob in page if blob.digest not in marks], limit, report, tell)
        return report

    def _look(self, age: timedelta, limit: timedelta, report: Report) -> tuple[_Old, set[str]]:
        old, namespaces = _Old(), set[str]()
        for blob in self._fenced(self._store.records()):
            report.blobs += 1
            namespaces.add(blob.namespace)
            if blob.is_older_than(age - _SLACK):
                old.nearly.add(blob.digest)
            if blob.is_older_than(limit):
                old.blobs.append(blob)
        report.old = len(old.blobs)
        return old, namespaces

    def _fenced(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; the lock hears of us as they are made, which may take long."""
        for page in pages(items, _FENCED_AT_ONCE):
            self._fence()
            yield from page

    def _remove(
        self, blobs: list[BlobRecord], limit: timedelta, report: Report, tell: Callable[[BlobRecord], None]
    ) -> None:
        self._fence()
        removed = blobs if self._is_dry or not blobs else self._store.remove_old(blobs, limit)
        for blob in removed:
            tell(blob)
            report.removed += 1
            report.removed_bytes += blob.size_bytes


def run_prune(store: BlobStore, mysql: MysqlSettings, age: timedelta, say: Say, *, is_dry: bool, as_json: bool) -> int:
    """Prune, and say what was done; give the exit status. Raises DistTestError."""
    with closing(Database(mysql, pool_size=2)) as database:
        database.check_schema()
        lock = Leadership(database, LOCK, silence_seconds=_SILENCE_SECONDS)
        if not lock.holds():
            say(json.dumps({"busy": True}) if as_json else "Another run is pruning at this moment; nothing was done.")
            return 0
        try:
            prune = Prune(store, UsedHashes(database), fence=lambda: lock.require("pruning"), is_dry=is_dry)
            _carry_out(prune, age, say, is_dry=is_dry, as_json=as_json)
        except OSError as exc:
            raise IsolateError(f"the store failed: {exc}") from exc
        finally:
            lock.resign()
    return 0


def _carry_out(prune: Prune, age: timedelta, say: Say, *, is_dry: bool, as_json: bool) -> None:
    told: list[dict[str, object]] = []

    def tell(blob: BlobRecord) -> None:
        if as_json:
            told.append({"namespace": blob.namespace, "digest": blob.digest, "size_bytes": blob.size_bytes})
        elif is_dry:
            say(f"{blob.namespace}/{blob.digest}  {blob.size_bytes} bytes  {blob.renewed_at:%Y-%m-%d}")

    report = prune.run(age, tell)
    if as_json:
        say(json.dumps({"busy": False, "dry_run": is_dry, "blobs": told, "total": asdict(report)}, indent=2))
    else:
        say(f"{'would remove' if is_dry else 'removed'} {report}")


def _content(store: BlobStore, namespace: str, digest: str) -> bytes:
    """The blob's content. Raises BlobNotFound, and DigestMismatch also when it is too large for a document."""
    decoder = Decoder(namespace, digest, limit_bytes=MAX_ISOLATED_BYTES)
    content = bytearray()
    stored = store.open(namespace, digest)
    try:
        while chunk := stored.stream.read(_CHUNK_BYTES):
            for piece in decoder.feed(chunk):
                content += piece
    finally:
        stored.stream.close()
    decoder.finish()
    return bytes(content)
