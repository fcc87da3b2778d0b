"""What clients that try again need: a server that says 503 while its store is away, and goes on afterwards."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dist_test.local.daemons import SeaweedFs

from .raw import Answer
from .served import GZIP, Served, digest_of, lookup, s3_store, serving, stored_form


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[SeaweedFs]:
    """An S3 server of the test's own, to be stopped."""
    (tmp_path / "s3").mkdir()
    server = SeaweedFs(tmp_path / "s3")
    server.start()
    yield server
    server.stop()


def test_without_its_store_every_request_is_answered_503_and_later_the_same_ones_work(
    s3: SeaweedFs, tmp_path: Path, content: bytes
) -> None:
    with serving(tmp_path, s3_store(s3, "outage")) as server:
        known = server.put(b"known" + content)
        ticket, item = server.ticket(content), server.stream_item(content + b"2")
        s3.stop()
        for answer in requests_of(server, known, ticket, item["gs_upload_url"], content):
            assert (answer.status, answer.json["error"]["code"]) == (503, 503)
        assert server.request("GET", "/healthz").status == 503
        s3.start()
        for answer in requests_of(server, known, ticket, item["gs_upload_url"], content):
            assert answer.status == 200
        assert server.retrieve(digest_of(content)).body == stored_form(content)


def requests_of(server: Served, known: str, ticket: str, address: str, content: bytes) -> Iterator[Answer]:
    """One of each request that needs the store, at once: each tries for a while."""
    token = server.handshake()
    items = [{"h": digest_of(content), "s": len(content), "i": 0}]
    asked = {"digest": known, "namespace": {"namespace": GZIP}}
    calls: list[Callable[[], Answer]] = [
        lambda: server.retrieve(known),
        lambda: server.call("retrieve", asked),
        lambda: server.call("preupload", lookup([content])),
        lambda: server.post(f"/content-gs/pre-upload/{GZIP}?token={token}", items),
        lambda: server.store_inline(ticket, stored_form(content)),
        lambda: server.request("PUT", address, stored_form(content + b"2")),
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        yield from pool.map(lambda call: call(), calls)


def test_no_two_workers_share_a_connection_to_the_bucket(bucket_server: Served) -> None:
    """They would read each other's answers: a blob that is there would count as damaged, a missing one as there."""
    for _ in range(4):
        assert bucket_server.request("GET", "/healthz").status == 200
    first, second = (sockets_of(pid) for pid in bucket_server.worker_pids())
    assert first & second & established() == set()


def sockets_of(pid: int) -> set[str]:
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}


def established() -> set[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] in ("01", "08")}  # proc(5): the state, here ESTABLISHED and CLOSE_WAIT
