"""The tube of attempts in beanstalkd: a hint of what to run next, which may be lost whole without losing work."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import TypeVar

import greenstalk

from dist_test.errors import DeadlineSoon, QueueEntryGone, QueueEntryTooBig, QueueUnavailable
from dist_test.settings import BeanstalkSettings
from dist_test.storage.bulk import chunks

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

ANSWER_SECONDS = 10.0  # an answer that takes longer counts as a lost connection
BUSY_SECONDS = 1.0
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.1
PIPELINE = 500  # commands sent before their answers are read; well below a socket's buffers
# The server cannot do it now. A buried entry is made ready again by the reconciler, and voided by the repeated put.
_SERVER_ERRORS = (
    greenstalk.OutOfMemoryError,
    greenstalk.DrainingError,
    greenstalk.InternalError,
    greenstalk.BuriedError,
)
_CONNECTION_ERRORS = (OSError, EOFError, greenstalk.UnknownResponseError, greenstalk.BadFormatError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """An entry that one connection holds. It ends with the connection: `connection` tells which one that was."""

    entry: int
    body: str
    connection: int


@dataclass(frozen=True, kw_only=True)
class TubeStatistics:
    """The tube's totals. `server` is the id that each start of beanstalkd makes anew."""

    ready: int
    reserved: int
    delayed: int
    buried: int
    server: str

    @property
    def waiting_or_held(self) -> int:
        return self.ready + self.reserved + self.delayed


class Queue:
    """One connection to beanstalkd, opened when first needed and again when lost. Safe to share between threads.

    touch, release and delete of a reserved entry work only on the connection that reserved it (beanstalkd
    doc/protocol.txt), hence one Queue for each slot of a slave. While `reserve` waits, other threads wait for it: a
    caller that holds something reserves with a timeout of 0.
    """

    def __init__(self, settings: BeanstalkSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._settings = settings
        self._sleep = sleep
        self._lock = threading.RLock()
        self._client: greenstalk.Client[str] | None = None
        self._socket: socket.socket | None = None
        self._server = ""
        self._connection = 0

    def put(self, body: str, *, priority: int, delay_seconds: int = 0) -> int:
        """Put one entry and give back its id. Raises QueueEntryTooBig, QueueUnavailable.

        A connection lost at the wrong moment may leave the entry twice in the tube; the claim makes that harmless.
        """
        return self._repeated(
            lambda client: client.put(body, priority=priority, delay=delay_seconds, ttr=self._time_to_run)
        )

    def put_all(self, entries: Sequence[tuple[int, str]], *, delay_seconds: int = 0) -> tuple[str, list[int]]:
        """Put (priority, body) pairs without waiting for each answer; give back the server and their ids, in order."""
        commands = [_put_command(priority, delay_seconds, self._time_to_run, body) for priority, body in entries]
        with self._lock:
            ids = [_inserted_id(answer) for answer in self._pipelined(commands)]
            return self.server(), ids

    def reserve(self, *, timeout_seconds: int) -> Reservation | None:
        """Reserve the next entry; None when none came in time. Raises DeadlineSoon, QueueUnavailable."""
        with self._lock:
            try:
                job = self._repeated(lambda client: self._reserve(client, timeout_seconds))
            except greenstalk.TimedOutError:
                return None
            except greenstalk.DeadlineSoonError as exc:
                raise DeadlineSoon("beanstalkd announces the end of a reservation") from exc
            return Reservation(entry=job.id, body=job.body, connection=self._connection)

    def touch(self, reservation: Reservation) -> None:
        """Start the reservation's time to run again. Raises QueueEntryGone when it is no longer ours.

        A connection that is busy for longer than a second waits in `reserve`, and so holds nothing any more.
        """
        if not self._lock.acquire(timeout=BUSY_SECONDS):
            raise QueueEntryGone(f"entry {reservation.entry} is not touched: its connection is waiting for another one")
        try:
            self._held(reservation, lambda client: client.touch(_held_job(reservation)))
        finally:
            self._lock.release()

    def release(self, reservation: Reservation, *, priority: int, delay_seconds: int = 0) -> None:
        """Give the entry back. Raises QueueEntryGone when it is no longer ours."""
        self._held(reservation, lambda client: client.release(_held_job(reservation), priority, delay_seconds))

    def finish(self, reservation: Reservation) -> None:
        """Delete a reserved entry. Raises QueueEntryGone when it is no longer ours."""
        self._held(reservation, lambda client: client.delete(reservation.entry))

    def priority_of(self, reservation: Reservation) -> int:
        """The priority that the entry was put with."""
        return self._repeated(lambda client: client.stats_job(reservation.entry)["pri"])

    def peek_all(self, entries: Sequence[int]) -> list[str | None]:
        """The bodies of entries by id, in the same order; None for an entry that is not there."""
        found: list[str | None] = []
        for chunk in chunks(entries, PIPELINE):
            found += self._repeated(lambda _, chunk=chunk: self._peek_chunk(chunk))  # type: ignore[misc]  # bound now
        return found

    def is_reserved(self, entry: int) -> bool:
        """Whether somebody holds the entry, were it somebody who has long been silent."""
        try:
            return self._repeated(lambda client: client.stats_job(entry)["state"]) == "reserved"
        except greenstalk.NotFoundError:
            return False

    def delete_all(self, entries: Sequence[int]) -> int:
        """Delete entries that nobody else has reserved; say how many there were. Check first that they are yours."""
        return sum(answer == b"DELETED" for answer in self._pipelined([b"delete %d\r\n" % entry for entry in entries]))

    def kick(self, bound: int) -> int:
        """Make up to `bound` buried entries ready again; say how many. We bury nothing, but beanstalkd may."""
        return self._repeated(lambda client: client.kick(bound))

    def statistics(self) -> TubeStatistics:
        """The tube's totals now."""
        with self._lock:
            tube = self._repeated(lambda client: client.stats_tube(self._settings.tube))
            return TubeStatistics(
                ready=tube["current-jobs-ready"],
                reserved=tube["current-jobs-reserved"],
                delayed=tube["current-jobs-delayed"],
                buried=tube["current-jobs-buried"],
                server=self._server,
            )

    def server(self) -> str:
        """The id of the beanstalkd process behind the connection."""
        with self._lock:
            return self._repeated(lambda _: self._server)

    def max_body_bytes(self) -> int:
        """The largest body that the server takes (its option -z)."""
        return self._repeated(lambda client: client.stats()["max-job-size"])

    def close(self) -> None:
        """Close the connection: beanstalkd makes everything that it holds ready again."""
        with self._lock:
            self._drop()

    @property
    def _time_to_run(self) -> int:
        return max(1, round(self._settings.time_to_run.total_seconds()))

    def _reserve(self, client: "greenstalk.Client[str]", timeout_seconds: int) -> "greenstalk.Job[str]":
        assert self._socket is not None  # set together with the client
        self._socket.settimeout(timeout_seconds + ANSWER_SECONDS)
        try:
            return client.reserve(timeout=timeout_seconds)
        finally:
            self._socket.settimeout(ANSWER_SECONDS)

    def _held(self, reservation: Reservation, act: Callable[["greenstalk.Client[str]"], object]) -> None:
        with self._lock:
            if reservation.connection != self._connection or self._client is None:
                raise QueueEntryGone(f"entry {reservation.entry} was reserved by an earlier connection")
            try:
                act(self._client)
            except greenstalk.NotFoundError as exc:
                raise QueueEntryGone(f"entry {reservation.entry} is no longer reserved by this connection") from exc
            except _CONNECTION_ERRORS as exc:
                self._drop()
                raise QueueEntryGone(f"the connection that held entry {reservation.entry} is lost: {exc}") from exc

    def _repeated(self, act: Callable[["greenstalk.Client[str]"], Result]) -> Result:
        with self._lock:
            for attempt in range(ATTEMPTS):
                try:
                    return act(self._connect())
                except greenstalk.JobTooBigError as exc:
                    self._drop()
                    raise QueueEntryTooBig("the queue entry is larger than beanstalkd's limit (its option -z)") from exc
                except (*_CONNECTION_ERRORS, *_SERVER_ERRORS) as exc:
                    self._drop()
                    if attempt == ATTEMPTS - 1:
                        raise self._unavailable(exc) from exc
                    self._sleep(FIRST_PAUSE_SECONDS * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _unavailable(self, exc: Exception) -> QueueUnavailable:
        where = f"{self._settings.host}:{self._settings.port}"
        return QueueUnavailable(f"beanstalkd on {where} did not do its work: {exc or type(exc).__name__}")

    def _connect(self) -> "greenstalk.Client[str]":
        if self._client is None:
            connection = socket.create_connection((self._settings.host, self._settings.port), timeout=ANSWER_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            tube = self._settings.tube
            self._client = greenstalk.Client(connection, use=tube, watch=tube)
            self._socket = connection
            self._server = self._client.stats()["id"]
            self._connection += 1
        return self._client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = self._socket = None

    def _pipelined(self, commands: Sequence[bytes]) -> list[bytes]:
        answers: list[bytes] = []
        for chunk in chunks(commands, PIPELINE):
            answers += self._repeated(lambda _, chunk=chunk: self._exchange(chunk))  # type: ignore[misc]  # bound now
        return answers

    def _exchange(self, commands: Sequence[bytes]) -> list[bytes]:
        with self._raw() as (connection, lines):
            connection.sendall(b"".join(commands))
            return [_line(lines) for _ in commands]

    def _peek_chunk(self, entries: Sequence[int]) -> list[str | None]:
        with self._raw() as (connection, lines):
            connection.sendall(b"".join(b"peek %d\r\n" % entry for entry in entries))
            return [_peeked(lines) for _ in entries]

    @contextmanager
    def _raw(self) -> Iterator[tuple[socket.socket, BufferedReader]]:
        # greenstalk reads nothing ahead between two commands, so for as long as the lock is held the socket is ours.
        self._connect()
        assert self._socket is not None  # set by _connect
        with self._socket.makefile("rb") as lines:
            yield self._socket, lines


def _held_job(reservation: Reservation) -> "greenstalk.Job[str]":
    return greenstalk.Job(reservation.entry, reservation.body)


def _put_command(priority: int, delay_seconds: int, time_to_run: int, body: str) -> bytes:
    data = body.encode()
    return b"put %d %d %d %d\r\n%b\r\n" % (priority, delay_seconds, time_to_run, len(data), data)


def _inserted_id(answer: bytes) -> int:
    word, _, number = answer.partition(b" ")
    if word == b"JOB_TOO_BIG":
        raise QueueEntryTooBig("the queue entry is larger than beanstalkd's limit (its option -z)")
    if word not in (b"INSERTED", b"BURIED"):
        raise QueueUnavailable(f"beanstalkd answered a put with {answer.decode(errors='replace')}")
    return int(number)


def _line(lines: BufferedReader) -> bytes:
    line = lines.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("beanstalkd closed the connection")
    return line[:-2]


def _peeked(lines: BufferedReader) -> str | None:
    words = _line(lines).split()
    if words[0] != b"FOUND":
        return None
    body = lines.read(int(words[2]) + 2)
    return (body or b"")[:-2].decode(errors="replace")


class Queues:
    """Connections to beanstalkd for the threads of one process: each borrows one for as long as it needs it."""

    def __init__(self, settings: BeanstalkSettings) -> None:
        self._settings = settings
        self._idle: list[Queue] = []

    @contextmanager
    def borrow(self) -> Iterator[Queue]:
        """Lend a connection that nobody else uses meanwhile. Nothing may stay reserved on it."""
        # list.pop and list.append are atomic; an empty list is no reason to wait.
        try:
            queue = self._idle.pop()
        except IndexError:
            queue = Queue(self._settings)
        try:
            yield queue
        finally:
            self._idle.append(queue)

    def close(self) -> None:
        """Close the connections that are not lent."""
        while self._idle:
            self._idle.pop().close()
