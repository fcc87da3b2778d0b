"""`.isolated` documents, down to files: nothing is written, and nothing leads, outside of the task's directory."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import strategies as st

from dist_test.errors import BlobNotFound, InvalidIsolated
from dist_test.isolate.cache import BlobCache, CacheLimits
from dist_test.isolate.digest import digest_bytes
from dist_test.running.cached import entries_of
from dist_test.running.tree import remove_tree, write_tree

from .conftest import Fuzz
from .mutations import edited_json
from .target import Target, refusal

HASH = "a" * 40
NUMBER_OF_ROOT = 0
LIMITS = CacheLimits(max_bytes=2**26, min_free_bytes=0, max_items=10_000)
MAX_BLOB_BYTES = 2**12
SEPARATOR = b"\n====\n"
PARTS = st.sampled_from(("a", "b", "c", "..", ".", "", "task.isolated", "\udc80", "é", "a" * 300))
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
DOCUMENT = {
    "algo": "sha-1",
    "version": "1.4",
    "command": ["./a", "b"],
    "files": {
        "a": {"h": HASH, "s": 3, "m": 0o755},
        "d/b": {"h": HASH, "s": 3},
        "d/link": {"l": "../a"},
        "e/f/link": {"l": "../../d/link"},
    },
    "includes": ["@1", "@2"],
    "relative_cwd": "d",
    "read_only": 1,
}
INCLUDED = {"files": {"g/h": {"h": HASH, "s": 0, "t": "basic"}, "g/i": {"l": "h"}}, "includes": ["@2"]}


class Source:
    """An isolate server that has the documents of one input, and a small blob for every other digest."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}

    def fetch(self, digest: str, destination: Path, *, size_bytes: int | None = None) -> int:
        content = self.documents.get(digest)
        if content is None and size_bytes is not None and size_bytes <= MAX_BLOB_BYTES:
            content = b"x" * size_bytes
        if content is None or size_bytes not in (None, len(content)):
            raise BlobNotFound(f"there is no blob {digest}")
        return destination.write_bytes(content)


class Host:
    """A directory with a task's directory in it, and much else that must stay as it is."""

    def __init__(self, root: Path) -> None:
        self.outside = root / "host"
        self.tree = self.outside / "work" / "tree"
        self.tree.parent.mkdir(parents=True)
        for name in ("a", "b", "work/a", "work/b"):
            (self.outside / name).write_text("not a task's")
        self._source = Source()
        self._cache = BlobCache(root / "cache", self._source, LIMITS)
        self._before = self._seen()

    def close(self) -> None:
        self._cache.close()

    def read(self, data: bytes) -> str:
        """As a slave does: fetch, write, remove. The input has documents; `@N` stands for the digest of number N."""
        documents = with_digests(data.split(SEPARATOR))
        self._source.documents = {digest_bytes(document): document for document in documents}
        try:
            return self._run(digest_bytes(documents[NUMBER_OF_ROOT]))
        finally:
            remove_tree(str(self.tree))
            assert self._seen() == self._before, "something outside of the task's directory has changed"

    def _run(self, digest: str) -> str:
        try:
            with self._cache.checkout(digest) as cached:
                entries = entries_of(cached)
                write_tree(entries, self.tree, cached.isolated)
        except (InvalidIsolated, BlobNotFound) as exc:
            return refusal(exc)
        except OSError as exc:  # such as a name that is too long for the disk
            return f"OSError {exc.errno}"
        self._check_links([entry.path for entry in entries if entry.link is not None])
        kinds = sorted({"link" if entry.link is not None else "file" for entry in entries})
        return f"{kinds}, command {bool(cached.tree.command)}, cwd {bool(cached.tree.relative_cwd)}"

    def _check_links(self, links: Sequence[str]) -> None:
        top = self.tree.resolve()
        for link in links:
            end = os.path.realpath(self.tree / link)
            assert Path(end).is_relative_to(top), f"{link} leads to {end}"

    def _seen(self) -> list[tuple[str, bytes]]:
        listing = sorted(self.outside.rglob("*"))
        return [(str(path), path.read_bytes() if path.is_file() else b"") for path in listing]


def with_digests(documents: list[bytes]) -> list[bytes]:
    """The documents, with each `@N` replaced by the digest of document N, which comes later."""
    done: dict[int, bytes] = {}
    for number in reversed(range(len(documents))):
        content = documents[number]
        for later, document in done.items() if b"@" in content else ():
            content = content.replace(b"@%d" % later, digest_bytes(document).encode())
        done[number] = content
    return [done[number] for number in range(len(documents))]


@st.composite
def trees(draw: st.DrawFn) -> bytes:
    """Documents that are right but for their paths and links."""
    files = draw(st.dictionaries(PATHS, st.one_of(PATHS.map(_link), st.just({"h": HASH, "s": 3})), max_size=6))
    return json.dumps(DOCUMENT | {"files": files, "includes": [HASH]}).replace(f', "includes": ["{HASH}"]', "").encode()


def _link(target: str) -> dict[str, str]:
    return {"l": target}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.close()


def test_a_tree_stays_in_its_directory(fuzz: Fuzz, host: Host) -> None:
    documents = edited_json([DOCUMENT, INCLUDED])
    inputs = st.one_of(trees(), st.lists(documents, min_size=1, max_size=3).map(SEPARATOR.join))
    fuzz(Target(name="isolated", read=host.read, inputs=inputs))
