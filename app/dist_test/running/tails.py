"""Passing on what a running command has written so far: from the launcher, which holds it, to who asks the Runner.

A request is a memory file. The launcher fills it and seals it, and the seal says that it is whole: nobody waits for
anybody, and a launcher that is busy, or a request that is never answered, costs nothing.
"""

import fcntl
import os
import struct
from collections.abc import Mapping

from dist_test.model.written import TAIL_BYTES, Written

_HEADER = struct.Struct("=QIQI")  # of stdout, then of stderr: how much was written, and how long the tail is


class TailsRequest:
    """One question for what there is. Close it."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.fd = os.memfd_create("tails", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    def read(self) -> Mapping[str, Written] | None:
        """The answer by stream, `stdout` and `stderr`; None before it is whole. Raises OSError."""
        if not fcntl.fcntl(self.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE:
            return None
        data = os.pread(self.fd, _HEADER.size + 2 * TAIL_BYTES, 0)
        stdout_total, stdout_bytes, stderr_total, stderr_bytes = _HEADER.unpack_from(data)
        begin = _HEADER.size
        middle = begin + stdout_bytes
        return {
            "stdout": Written(total_bytes=stdout_total, tail=data[begin:middle]),
            "stderr": Written(total_bytes=stderr_total, tail=data[middle : middle + stderr_bytes]),
        }

    def close(self) -> None:
        os.close(self.fd)


def answer(fd: int, stdout: Written, stderr: Written) -> None:
    """Fill a request that came over the channel. Raises OSError."""
    header = _HEADER.pack(stdout.total_bytes, len(stdout.tail), stderr.total_bytes, len(stderr.tail))
    os.writev(fd, [header, stdout.tail, stderr.tail])
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
