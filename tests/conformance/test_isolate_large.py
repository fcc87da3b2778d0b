"""Blobs of 1 GiB go through in a stream: no worker's memory grows with them."""

import base64
import hashlib
import http.client
import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from .raw import DEADLINE_SECONDS
from .served import GZIP, RAW, Served

MIB = 2**20
LARGE_BYTES = 2**30
BLOCK = hashlib.shake_128(b"large").digest(MIB)  # does not compress
ALLOWED_GROWTH_BYTES = 32 * MIB


def blocks(size_bytes: int) -> Iterator[bytes]:
    for number in range(size_bytes // MIB):
        yield number.to_bytes(8, "big") + BLOCK[8:]


def stored_blocks(namespace: str, size_bytes: int) -> Iterator[bytes]:
    """The stored form, piece by piece, as fast as it can be made."""
    if namespace == RAW:
        yield from blocks(size_bytes)
        return
    compressor = zlib.compressobj(0)
    for block in blocks(size_bytes):
        yield compressor.compress(block)
    yield compressor.flush()


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) * 1024


def reset_peaks(server: Served) -> dict[int, int]:
    """Have the kernel count the workers' peaks anew (proc(5): clear_refs 5); what they are now."""
    for pid in server.worker_pids():
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return {pid: peak_bytes(pid) for pid in server.worker_pids()}


def digest_of_blocks(size_bytes: int) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for block in blocks(size_bytes):
        digest.update(block)
    return digest.hexdigest()


def upload_item(server: Served, namespace: str, digest: str, size_bytes: int) -> dict[str, Any]:
    asked = {"items": [{"digest": digest, "size": str(size_bytes)}], "namespace": {"namespace": namespace}}
    (item,) = server.call("preupload", asked).json["items"]
    return dict(item)


def put_chunked(server: Served, address: str, pieces: Iterator[bytes]) -> http.client.HTTPResponse:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)) as connection:
        path = address.removeprefix(server.url)
        connection.request("PUT", path, pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        answer = connection.getresponse()
        answer.read()
        return answer


def digest_received(server: Served, path: str) -> tuple[int, int, str]:
    """Status, length and SHA-1 of what a GET brings."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_SECONDS)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        digest, length = hashlib.sha1(usedforsecurity=False), 0
        while piece := answer.read(MIB):
            digest.update(piece)
            length += len(piece)
        assert answer.headers["Content-Length"] == str(length)
        return answer.status, length, digest.hexdigest()


WHOLE = pytest.param(LARGE_BYTES, id="1 GiB")
PART = pytest.param(192 * MIB, id="192 MiB")
WHOLE_WHEN_FULL = pytest.param(LARGE_BYTES, id="1 GiB", marks=pytest.mark.full)


@pytest.mark.parametrize("size_bytes", [WHOLE])
def test_a_large_blob_streams_up_chunked_and_down_with_flat_memory(server: Served, size_bytes: int) -> None:
    round_trip(server, RAW, size_bytes)


@pytest.mark.parametrize("size_bytes", [PART, WHOLE_WHEN_FULL])
def test_a_large_compressed_blob_streams_with_flat_memory(server: Served, size_bytes: int) -> None:
    round_trip(server, GZIP, size_bytes)


@pytest.mark.parametrize("size_bytes", [PART, WHOLE_WHEN_FULL])
def test_a_large_blob_streams_to_a_bucket_and_back_with_flat_memory(bucket_server: Served, size_bytes: int) -> None:
    round_trip(bucket_server, RAW, size_bytes)


def round_trip(server: Served, namespace: str, size_bytes: int) -> None:
    digest = digest_of_blocks(size_bytes)
    before = reset_peaks(server)
    item = upload_item(server, namespace, digest, size_bytes)
    md5, sent, length = hashlib.md5(usedforsecurity=False), hashlib.sha1(usedforsecurity=False), 0

    def seen() -> Iterator[bytes]:
        nonlocal length
        for piece in filter(None, stored_blocks(namespace, size_bytes)):
            md5.update(piece)
            sent.update(piece)
            length += len(piece)
            yield piece

    answer = put_chunked(server, item["gs_upload_url"], seen())
    assert answer.status == 200
    assert answer.headers["x-goog-hash"] == f"md5={base64.b64encode(md5.digest()).decode()}"
    assert server.call("finalize_gs_upload", {"upload_ticket": item["upload_ticket"]}).json == {"ok": True}
    path = f"/content-gs/retrieve/{namespace}/{digest}"
    assert digest_received(server, path) == (200, length, sent.hexdigest())
    grown = {pid: peak_bytes(pid) - peak for pid, peak in before.items()}
    print(f"workers grew by at most {max(grown.values()) / MIB:.1f} MiB for {size_bytes / MIB:.0f} MiB in {namespace}")
    assert max(grown.values()) < ALLOWED_GROWTH_BYTES
