"""gunicorn's worker with threads, for clients that are silent, slow or very many: they keep nobody else waiting."""

import errno
import logging
import resource
import selectors
import socket
import time
from functools import partial
from typing import Any

from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]  # gunicorn has no annotations
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]  # gunicorn has no annotations

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 16 * 2**10  # of a request that waits to be whole; gunicorn has limits of its own for longer ones
MIN_BYTES_PER_SECOND = 8 * 2**10  # a client on a telephone line is as quick as that
LINGER_SECONDS = 1.0  # for a client to read the last answer on its connection, before that is closed
_LINGER_BYTES = 32 * 2**20  # and as much from a client that goes on all the same
_PIECE_BYTES = 128 * 2**10  # of an answer: a client that reads nothing stops us in the middle of one
_GLANCE_SECONDS = 0.01  # for what has arrived of a body
_OTHER_FILES = 256  # of a worker beside its connections: its servers, blobs under way, its log
_HANDFUL = 64  # connections that make room at a time, so that it need not be done for each new one


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """Serves requests in threads, and watches over connections that have none without a thread.

    1. A connection gets a thread once the head of its request is whole. Until then it costs a file descriptor, and is
    closed after `keepalive` seconds. 2. When there are too many connections, those that have waited longest are closed
    for new ones. 3. A thread waits for a body, or for its answer to be read, for as long as PatientSocket does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        files = allow_files(self.worker_connections + _OTHER_FILES)
        self._most = max(_HANDFUL, min(self.worker_connections, files - _OTHER_FILES) - _HANDFUL)

    def accept(self, listener: Any) -> None:
        """Take a new connection, if need be in the place of others."""
        if self.nr_conns >= self._most:
            self._make_room()
        super().accept(listener)

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread; a new one only once there is a request on it."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        conn.sock.setblocking(False)
        conn.set_timeout()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Go on with a new connection when the head of its request is whole."""
        if has_head(client):
            super().on_pending_socket_readable(conn, client)

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Go on with a kept connection when the head of its next request is whole."""
        if has_head(client):
            super().on_client_socket_readable(conn, client)

    def handle(self, conn: Any) -> Any:
        """Serve a request, in a thread; give back whether its connection is kept."""
        conn.init()
        conn.parser.unreader.sock = PatientSocket(conn.sock, patience_seconds=self.app.silence_seconds)
        is_kept = super().handle(conn)
        if not is_kept:
            # Or gunicorn's loop waits two seconds for this one client to close, and sees to nobody else meanwhile.
            linger(conn.sock, is_heard_out=_is_heard_out(conn.parser))
        return is_kept

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request, in a thread."""
        sock = conn.sock
        conn.sock = conn.parser.unreader.sock
        try:
            return super().handle_request(req, conn)
        finally:
            conn.sock = sock

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _make_room(self) -> None:
        for _ in range(_HANDFUL):
            # Each is in the order in which its connections began to wait, all for the same time.
            queues = [queue for queue in (self.pending_conns, self.keepalived_conns) if queue]
            if not queues:
                return
            conn = min(queues, key=lambda queue: queue[0].timeout).popleft()
            self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            conn.close()


class PatientSocket:
    """What a request is read from and its answer is written to. Ends both when the client is slow for too long.

    Only the time in which we wait for the client counts: not that in which it waits for us.
    """

    def __init__(self, sock: socket.socket, *, patience_seconds: float) -> None:
        """patience_seconds: for all pauses together; each MIN_BYTES_PER_SECOND give a second of it back."""
        self._sock = sock
        self._patience_seconds = self._left_seconds = patience_seconds
        # What gunicorn asks of a socket besides, with nothing to wait for.
        self.gettimeout = sock.gettimeout
        self.settimeout = sock.settimeout
        self.send = sock.send
        self.shutdown = sock.shutdown
        self.close = sock.close

    def recv(self, size: int) -> bytes:
        """Read `size` bytes or fewer; none when the client has hung up or took too long."""
        began = time.monotonic()
        try:
            found = self._sock.recv(size)
        except BlockingIOError:  # the limit of the listener, see serving.py
            return self._hang_up()
        return found if self._is_patient(began, len(found)) else self._hang_up()

    def sendall(self, data: bytes) -> None:
        """Write all of it. Raises BrokenPipeError when the client has hung up or took too long."""
        left = memoryview(data)
        while left:
            piece = left[:_PIECE_BYTES]
            began = time.monotonic()
            try:
                sent = self._sock.send(piece)
            except BlockingIOError:
                sent = 0
            # It blocks: with less than a piece it ends at the limit of the listener alone.
            if sent < len(piece) or not self._is_patient(began, sent):
                self._hang_up()
                raise BrokenPipeError(errno.EPIPE, "the client took too long for its answer")
            left = left[sent:]

    def _is_patient(self, began: float, moved_bytes: int) -> bool:
        left = self._left_seconds + moved_bytes / MIN_BYTES_PER_SECOND - (time.monotonic() - began)
        self._left_seconds = min(self._patience_seconds, left)
        return self._left_seconds > 0

    def _hang_up(self) -> bytes:
        logger.info("Hung up on a client that was too slow", extra={"action": "slow_client"})
        # So that nothing of the rest is taken for another request.
        self._sock.shutdown(socket.SHUT_RD)
        return b""


def has_head(client: socket.socket) -> bool:
    """Whether the head of a request has arrived, or no more of it will. Otherwise a poller will tell of any more."""
    try:
        seen = client.recv(MAX_HEAD_BYTES, socket.MSG_PEEK)
    except OSError:
        return True  # whoever reads it learns why
    # Fewer bytes than we wanted to be told of: the client will send nothing more.
    has_ended = len(seen) < client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
    is_there = has_ended or b"\r\n\r\n" in seen or len(seen) >= MAX_HEAD_BYTES
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 if is_there else len(seen) + 1)
    return is_there


def linger(client: socket.socket, *, is_heard_out: bool) -> None:
    """End a connection so that its client gets the whole answer.

    Closing a connection on which something comes that nobody reads takes the answer away from the client. So one that
    is not heard out has LINGER_SECONDS to close it first.
    """
    try:
        client.shutdown(socket.SHUT_WR)
        if not is_heard_out:
            _drain(client, time.monotonic() + LINGER_SECONDS)
        client.shutdown(socket.SHUT_RD)
    except OSError as exc:
        logger.debug("A connection ended by itself: %s", exc)


def _is_heard_out(parser: Any) -> bool:
    """Whether a request was read to its end, as far as that is here already."""
    try:
        return parser.mesg is not None and bool(parser.finish_body(deadline=time.monotonic() + _GLANCE_SECONDS))
    except (OSError, ParseException):
        return False


def _drain(client: socket.socket, deadline: float) -> None:
    left_bytes = _LINGER_BYTES
    while left_bytes > 0 and (left_seconds := deadline - time.monotonic()) > 0:
        client.settimeout(left_seconds)
        try:
            found = client.recv(2**16)
        except TimeoutError:
            return
        if not found:
            return
        left_bytes -= len(found)


def allow_files(wanted: int) -> int:
    """Raise this process's own limit of open files to `wanted` where it is lower; give back what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
