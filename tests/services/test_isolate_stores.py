"""Both stores of the isolate server keep the same contract."""

import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import pytest

from dist_test.errors import BlobNotFound, DigestMismatch
from dist_test.isolate.digest import digest_bytes
from dist_test.isolate.store import BlobStore, DiskStore, S3Store, read_verified
from dist_test.local.daemons import SeaweedFs
from dist_test.storage.results import Bucket

GZIP = "default-gzip"
CONTENT = b"content" * 1000
DIGEST = digest_bytes(CONTENT)
STORED = zlib.compress(CONTENT)


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "disk":
        return DiskStore(tmp_path / "store")
    seaweedfs = cast(SeaweedFs, request.getfixturevalue("seaweedfs"))
    bucket = Bucket(
        f"store-{digest_bytes(str(tmp_path).encode())[:20]}",
        endpoint_url=seaweedfs.endpoint_url,
        access_key=seaweedfs.access_key,
        secret_key=seaweedfs.secret_key,
    )
    bucket.ensure_exists()
    return S3Store(bucket)


def put(store: BlobStore, stored: Iterable[bytes] = (STORED,), *, size_bytes: int | None = len(CONTENT)) -> None:
    store.put(GZIP, DIGEST, size_bytes, stored)


def damage(store: BlobStore, stored: bytes, namespace: str = GZIP, digest: str = DIGEST) -> None:
    """Put something under a digest that is not its own, as a broken disk would."""
    if isinstance(store, DiskStore):
        next(store._blobs.glob(f"{namespace}/*/{digest}")).write_bytes(stored)
    elif isinstance(store, S3Store):
        import io

        store._bucket.put_file(f"isolate/{namespace}/{digest}", io.BytesIO(stored))


def read(store: BlobStore, namespace: str = GZIP, digest: str = DIGEST) -> bytes:
    return b"".join(read_verified(store, namespace, digest, store.open(namespace, digest)))


def test_store_can_be_used(store: BlobStore) -> None:
    store.check()


def test_a_blob_comes_back_as_it_was_sent(store: BlobStore) -> None:
    put(store, [STORED[:10], STORED[10:]])
    opened = store.open(GZIP, DIGEST)
    assert opened.size_bytes == len(STORED)
    assert opened.stream.read(10**6) == STORED
    opened.stream.close()
    assert read(store) == STORED


def test_only_what_was_put_is_contained(store: BlobStore) -> None:
    put(store)
    other = "0" * 40
    assert store.contains(GZIP, [DIGEST, other]) == {DIGEST}
    assert store.contains("other-gzip", [DIGEST]) == set()
    assert store.contains(GZIP, []) == set()


def test_a_blob_may_be_put_again_in_another_compression(store: BlobStore) -> None:
    put(store)
    again = zlib.compress(CONTENT, 0)
    put(store, [again])
    assert read(store) == again


@pytest.mark.parametrize("size_bytes", [0, None])
def test_an_empty_blob_is_a_blob(store: BlobStore, size_bytes: int | None) -> None:
    empty = digest_bytes(b"")
    store.put(GZIP, empty, size_bytes, [zlib.compress(b"")])
    store.put("raw", empty, size_bytes, [])
    assert read(store, GZIP, empty) == zlib.compress(b"")
    assert read(store, "raw", empty) == b""


@pytest.mark.parametrize(
    ("stored", "size_bytes"),
    [
        pytest.param(CONTENT, len(CONTENT), id="not compressed"),
        pytest.param(STORED[:-1], len(CONTENT), id="cut short"),
        pytest.param(STORED + b"x", len(CONTENT), id="too long"),
        pytest.param(STORED, len(CONTENT) - 1, id="another size"),
        pytest.param(zlib.compress(b"x" * len(CONTENT)), len(CONTENT), id="other content"),
    ],
)
def test_what_does_not_match_never_becomes_visible(store: BlobStore, stored: bytes, size_bytes: int) -> None:
    with pytest.raises(DigestMismatch):
        put(store, [stored], size_bytes=size_bytes)
    assert store.contains(GZIP, [DIGEST]) == set()


def test_an_upload_that_breaks_off_never_becomes_visible(store: BlobStore) -> None:
    def broken() -> Iterator[bytes]:
        yield STORED[:10]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        put(store, broken())
    assert store.contains(GZIP, [DIGEST]) == set()


def test_an_unknown_blob_is_not_found(store: BlobStore) -> None:
    with pytest.raises(BlobNotFound):
        store.open(GZIP, DIGEST)


def test_dropping_is_no_error_when_there_is_nothing(store: BlobStore) -> None:
    put(store)
    store.drop(GZIP, DIGEST)
    store.drop(GZIP, DIGEST)
    assert store.contains(GZIP, [DIGEST]) == set()


def test_a_damaged_blob_is_cut_short_and_dropped(store: BlobStore) -> None:
    noise = os.urandom(10**6)
    digest = digest_bytes(noise)
    store.put("raw", digest, len(noise), [noise])
    damage(store, noise[:-1] + bytes([noise[-1] ^ 1]), "raw", digest)
    received: list[bytes] = []
    with pytest.raises(DigestMismatch):
        received.extend(read_verified(store, "raw", digest, store.open("raw", digest)))
    assert sum(map(len, received)) < len(noise)
    assert store.contains("raw", [digest]) == set()


def test_litter_of_a_crash_is_swept_when_it_is_old(tmp_path: Path) -> None:
    DiskStore(tmp_path)
    for name, age_seconds in (("old", 2 * 86400), ("new", 0)):
        path = tmp_path / "incoming" / name
        path.touch()
        os.utime(path, (path.stat().st_mtime - age_seconds,) * 2)
    DiskStore(tmp_path)
    assert [path.name for path in (tmp_path / "incoming").iterdir()] == ["new"]
