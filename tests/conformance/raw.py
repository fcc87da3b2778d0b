"""HTTP byte by byte: what no HTTP library would write, and answers as they really come."""

import contextlib
import itertools
import json
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

DEADLINE_SECONDS = 60
JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer; `header_lines` as they came, each a name in lower case and a value."""

    status: int
    header_lines: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header that may be there once, None without it."""
        values = [value for found, value in self.header_lines if found == name.lower()]
        assert len(values) < 2, self.header_lines
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body of an answer that every client takes for JSON: Go looks at the content type to the letter."""
        assert (self.header("Content-Type") or "").lower() == JSON, self
        return json.loads(self.body)


class Connection:
    """A connection on which a test writes what it wants."""

    def __init__(self, port: int, *, source: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS, source_address=(source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")

    def send(self, *packets: bytes) -> None:
        """Write each of these in a call of its own: the kernel sends it at once."""
        for packet in packets:
            self._socket.sendall(packet)

    def finish(self) -> None:
        """End our side of the connection; answers still come."""
        self._socket.shutdown(socket.SHUT_WR)

    def answer(self, *, to_head: bool = False) -> Answer:
        """The next answer. Fails when the connection ends within or before it."""
        status = int(self._line().split(" ")[1])
        lines = tuple((name.lower(), value.strip()) for name, _, value in self._header_lines())
        if to_head or status < 200:
            return Answer(status=status, header_lines=lines, body=b"")
        assert "transfer-encoding" not in dict(lines), lines
        length = int(dict(lines)["content-length"])
        body = self._reader.read(length)
        assert len(body) == length, f"{len(body)} of {length} bytes came"
        return Answer(status=status, header_lines=lines, body=body)

    def is_ended(self) -> bool:
        """Wait until the server ends the connection, without another answer."""
        return self._reader.read(1) == b""

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self) -> str:
        line = self._reader.readline()
        assert line.endswith(b"\r\n"), "the connection ended before the answer"
        return line.decode("latin-1").strip()

    def _header_lines(self) -> Iterator[tuple[str, str, str]]:
        while line := self._line():
            yield line.partition(":")


def head(method: str, target: str, *lines: str, host: str = "isolate.test") -> bytes:
    """A request up to its body."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode("latin-1")


def chunked_head(method: str, target: str, content_type: str = JSON) -> bytes:
    """A request up to its body, as Go's client writes it."""
    lines = ("User-Agent: Go-http-client/1.1", "Transfer-Encoding: chunked", f"Content-Type: {content_type}")
    return head(method, target, *lines, "Accept-Encoding: gzip")


def chunked(body: bytes, sizes: Iterable[int] = (1000,), *, extension: str = "", trailers: Iterable[str] = ()) -> bytes:
    """The body in chunks of these sizes, over and over, with the chunk that ends it."""
    written = bytearray()
    rest = memoryview(body)
    for size in itertools.cycle(sizes):
        if not rest:
            break
        piece, rest = rest[:size], rest[size:]
        written += b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece)
    end = "".join(f"{trailer}\r\n" for trailer in trailers)
    return bytes(written) + f"0{extension}\r\n{end}\r\n".encode()


def exchange(port: int, *packets: bytes, to_head: bool = False) -> Answer:
    """One request on a connection of its own, and the answer."""
    with contextlib.closing(Connection(port)) as connection:
        connection.send(*packets)
        return connection.answer(to_head=to_head)
