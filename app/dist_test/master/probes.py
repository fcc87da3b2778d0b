"""Ask a server whether it answers, for no longer than one is willing to wait."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from dist_test.errors import DistTestError

LIMIT_SECONDS = 2.0


class Probe:
    """Runs one question at a time. Safe to share between threads: who comes while one is out waits for its answer.

    A server that took the connection and then froze holds the question for as long as its client waits, a minute or
    more; hence a thread of its own, and never more than one.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        """`ask` raises DistTestError when the server is not well."""
        self._ask = ask
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="probe")
        self._answer: Future[object] | None = None

    def problem(self) -> str | None:
        """What is wrong with the server; None when it has answered within two seconds."""
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer = self._threads.submit(self._ask)
            answer = self._answer
        try:
            answer.result(timeout=LIMIT_SECONDS)
        except TimeoutError:
            return f"no answer within {LIMIT_SECONDS:g} s"
        except DistTestError as exc:
            return str(exc)
        return None
