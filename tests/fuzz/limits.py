"""What one input may take: seconds of the processor, and memory."""

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

MAX_CPU_SECONDS = 2.0  # for a megabyte
GIVE_UP_CPU_SECONDS = 10.0
MAX_MEMORY_BYTES = 2**30
_PAGE_BYTES = resource.getpagesize()


class TookTooLong(Exception):
    """Reading the input took more than a second try could explain."""


@contextmanager
def limited() -> Iterator[None]:
    """Raise TookTooLong or MemoryError in what takes too much. Only the processor's time counts, not the clock's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    signal.signal(signal.SIGVTALRM, _give_up)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MAX_MEMORY_BYTES, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, GIVE_UP_CPU_SECONDS)
    begun = time.thread_time()
    try:
        yield
        taken = time.thread_time() - begun
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    if taken > MAX_CPU_SECONDS:
        raise TookTooLong(f"it took {taken:.1f} s of the processor; the limit is {MAX_CPU_SECONDS:g} s")


def _give_up(_number: int, frame: FrameType | None) -> None:
    raise TookTooLong(f"it took more than {GIVE_UP_CPU_SECONDS:g} s of the processor and was not done")


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE_BYTES
