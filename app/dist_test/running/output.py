"""One output stream of a task: the beginning and the end are kept, however much a test writes."""

import errno
import os

from dist_test.model.cut_log import cut_line
from dist_test.model.written import TAIL_BYTES, Written

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


class CappedOutput:
    """Writes a stream to a file as it comes, and from half its limit on keeps only the latest bytes.

    The task's end of the stream is a pipe, not the file itself: `echo > /dev/stderr` opens it anew and would empty a
    file, and a pipe bounds what reaches the disk without polling or punching holes.
    """

    def __init__(self, fd: int, limit_bytes: int) -> None:
        """`fd` is written from its start; latest() reads it too."""
        self._fd = fd
        self._limit = limit_bytes
        self._head_left = limit_bytes // 2
        self._tail_limit = limit_bytes - self._head_left
        self._tail = bytearray()
        self._dropped = 0
        self.written_bytes = 0
        self.lost_bytes = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes. A full disk costs bytes, counted in `lost_bytes`; any other OSError is raised."""
        self.written_bytes += len(data)
        if self._head_left:
            head = data[: self._head_left]
            self._keep(head)
            self._head_left -= len(head)
            data = data[len(head) :]
        if data:
            self._tail += data
            # Twice the limit before each trim, so that bytes are moved once on average.
            if len(self._tail) > 2 * self._tail_limit:
                self._trim()

    def finish(self) -> None:
        """Write what was held back; call once, after the last byte. Raises OSError as write does."""
        self._trim()
        if self._dropped:
            self._keep(cut_line(self._dropped, self._limit))
        self._keep(self._tail)

    def latest(self) -> Written:
        """How much there was so far, and the end of it. Not after finish(). Raises OSError."""
        tail = bytes(self._tail[-TAIL_BYTES:])
        room = TAIL_BYTES - len(tail)
        # The file ends where the tail begins, unless bytes between them are gone.
        if room and not self._dropped and not self.lost_bytes:
            head_bytes = self.written_bytes - len(self._tail)
            tail = os.pread(self._fd, room, max(0, head_bytes - room))[:head_bytes] + tail
        return Written(total_bytes=self.written_bytes, tail=tail)

    def _keep(self, data: bytes | bytearray) -> None:
        # Most likely the test itself has filled the disk: that is no reason to take the verdict from it, or to blame
        # the slave.
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            if error.errno not in _DISK_IS_FULL:
                raise
            self.lost_bytes += len(data)

    def _trim(self) -> None:
        excess = len(self._tail) - self._tail_limit
        if excess > 0:
            del self._tail[:excess]
            self._dropped += excess
