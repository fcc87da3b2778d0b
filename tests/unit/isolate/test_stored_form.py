"""The stored form: what comes back is what went in, and nothing else gets through."""

import os
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_test.errors import DigestMismatch, IsolateError
from dist_test.isolate.digest import digest_bytes
from dist_test.isolate.stored_form import Decoder, check_namespace, encode

GZIP, RAW = "default-gzip", "default"


def decode(
    namespace: str,
    digest: str,
    chunks: Iterable[bytes],
    size_bytes: int | None = None,
    *,
    limit_bytes: int | None = None,
) -> bytes:
    decoder = Decoder(namespace, digest, size_bytes, limit_bytes=limit_bytes)
    content = b"".join(piece for chunk in chunks for piece in decoder.feed(chunk))
    assert decoder.finish() == len(content)
    return content


@pytest.mark.parametrize("namespace", [GZIP, RAW, "x-deflate"])
@given(pieces=st.lists(st.binary(max_size=300), max_size=5))
def test_content_survives_storing(namespace: str, pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    stored = b"".join(encode(namespace, pieces))
    chunks = [stored[i : i + 7] for i in range(0, len(stored), 7)]
    assert decode(namespace, digest_bytes(content), chunks, len(content)) == content


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20, 3 * 2**20 + 300])
def test_content_of_about_the_size_of_a_piece_is_complete(size: int) -> None:
    content = b"x" * size
    assert decode(GZIP, digest_bytes(content), [zlib.compress(content, 9)], size) == content


def test_what_does_not_shrink_is_not_compressed() -> None:
    noise = os.urandom(2**17)
    assert noise[:1000] in b"".join(encode(GZIP, [noise]))


def test_a_small_blob_that_unpacks_to_a_huge_one_is_stopped_early() -> None:
    bomb = zlib.compress(b"\0" * 2**26, 9)
    with pytest.raises(DigestMismatch, match="more than 1000"):
        next(Decoder(GZIP, "a" * 40, 1000).feed(bomb))


def test_a_limit_holds_when_the_size_is_not_known() -> None:
    content = b"x" * 2000
    with pytest.raises(DigestMismatch, match="more than 1999"):
        decode(GZIP, digest_bytes(content), [zlib.compress(content)], limit_bytes=1999)


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"content", id="not compressed"),
        pytest.param(zlib.compress(b"content")[:-1], id="cut short"),
        pytest.param(zlib.compress(b"content") + b"x", id="something after it"),
        pytest.param(zlib.compress(b"content") * 2, id="two streams"),
        pytest.param(zlib.compress(b"Content"), id="other content"),
        pytest.param(zlib.compress(b"contents"), id="longer content"),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_damaged_content_is_noticed(stored: bytes, step: int) -> None:
    chunks = [stored[i : i + step] for i in range(0, len(stored), step)]
    with pytest.raises(DigestMismatch):
        decode(GZIP, digest_bytes(b"content"), chunks, 7)


@pytest.mark.parametrize("namespace", ["", ".", "..", "a/b", "a b", "sha256-GCP", "sha512-x", None, 1])
def test_a_namespace_that_cannot_be_served_is_refused(namespace: object) -> None:
    with pytest.raises(IsolateError):
        check_namespace(namespace)
