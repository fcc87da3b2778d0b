"""Shows running attempts to whoever looks: the ends of their output, written to MySQL twice a second.

Nothing of this may slow or stop an attempt or a heartbeat: it has a thread and a connection of its own, asks runners
without waiting for them, and is without effect while the database is away.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dist_test.errors import DatabaseRefused, DatabaseUnavailable
from dist_test.model.cut_log import find_cut
from dist_test.model.written import TAIL_BYTES, Written
from dist_test.running.records import OutputFile, RunResult
from dist_test.running.tails import TailsRequest
from dist_test.slave.holdings import Holding, Holdings
from dist_test.storage.claims import Claim
from dist_test.storage.live_logs import Wanted

logger = logging.getLogger(__name__)

EVERY_SECONDS = 0.5
_ANSWER_SECONDS = 0.05  # how long a round waits for launchers; what comes later is taken by the next one
_LOST_AFTER_SECONDS = 2.0  # a request that a launcher got while it did not run the command is never answered
_AWAY_SECONDS = 5.0  # between two tries while the database is away
_STOP_SECONDS = 1.0  # how long stop() waits for a statement
_LAST_WORDS_SECONDS = 120.0  # how long the end of an attempt waits for being recorded

Streams = Mapping[str, Written]


class Store(Protocol):
    """Where the ends of output go."""

    def wanted(self, jobs: Sequence[int]) -> list[Wanted]: ...

    def write(self, claim: Claim, written: Streams) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class _Asked:
    request: TailsRequest
    at: float


@dataclass(frozen=True, kw_only=True)
class _LastWords:
    written: Streams
    until: float


class LiveOutput:
    """One thread.

    Each round: 1. ask MySQL which attempts of the jobs at hand somebody looks at; 2. ask the runners of those for
    their tails; 3. write what has changed; 4. write once more what has ended and is recorded: a row that was written
    after its attempt's end is known to be whole.
    """

    def __init__(self, store: Store, holdings: Holdings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._holdings = holdings
        self._clock = clock
        self._watched: frozenset[Claim] = frozenset()
        self._asked: dict[Claim, _Asked] = {}
        self._last_words: dict[Claim, _LastWords] = {}
        self._lock = threading.Lock()
        self._is_away = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-output", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop, whatever somebody looks at."""
        self._stopped.set()
        self._thread.join(_STOP_SECONDS)

    def ended(self, holding: Holding, ran: RunResult) -> None:
        """Keep the end of what an attempt wrote if somebody looks at it. Its files are still there; any thread may."""
        if holding.claim not in self._watched or ran.written_bytes is None:
            return
        try:
            stdout, stderr = map(_end_of, (ran.stdout, ran.stderr), ran.written_bytes)
        except OSError as exc:
            logger.warning("Cannot show the end of %s: %s", holding.entry.name, exc)
            return
        words = _LastWords(written={"stdout": stdout, "stderr": stderr}, until=self._clock() + _LAST_WORDS_SECONDS)
        with self._lock:
            self._last_words[holding.claim] = words

    def round(self) -> None:
        """Do one round. Raises DatabaseUnavailable, DatabaseRefused, OSError."""
        held = {holding.claim.key: holding for holding in self._holdings.all()}
        wanted = self._store.wanted(sorted({key.job for key in held})) if held else []
        watched = [(held[row.key], row) for row in wanted if row.key in held]
        self._watched = frozenset(holding.claim for holding, _ in watched)
        self._ask([holding for holding, _ in watched])
        for holding, row in watched:
            self._show(holding.claim, row)
        self._speak_last_words()

    def _run(self) -> None:
        while not self._stopped.wait(_AWAY_SECONDS if self._is_away else EVERY_SECONDS):
            try:
                self.round()
                self._is_away = False
            except (DatabaseUnavailable, DatabaseRefused, OSError) as exc:
                if not self._is_away:
                    logger.warning("No live logs for now: %s", exc, extra={"action": "live_logs_failed"})
                self._is_away = True
            except Exception:  # a round that fails in a way nobody thought of must not end all later ones
                logger.exception("Live logs failed")
                self._is_away = True

    def _ask(self, holdings: Sequence[Holding]) -> None:
        self._forget_lost()
        for holding in holdings:
            if holding.claim not in self._asked and (request := holding.ask_for_tails()) is not None:
                self._asked[holding.claim] = _Asked(request=request, at=self._clock())
        if self._asked:
            self._stopped.wait(_ANSWER_SECONDS)

    def _forget_lost(self) -> None:
        for claim, asked in list(self._asked.items()):
            if claim not in self._watched or self._clock() - asked.at > _LOST_AFTER_SECONDS:
                asked.request.close()
                del self._asked[claim]

    def _show(self, claim: Claim, row: Wanted) -> None:
        written = self._take_answer(claim)
        if written is not None and not _is_written(claim, written, row):
            self._store.write(claim, written)

    def _take_answer(self, claim: Claim) -> Streams | None:
        asked = self._asked.get(claim)
        written = asked.request.read() if asked is not None else None
        if asked is not None and written is not None:
            asked.request.close()
            del self._asked[claim]
        return written

    def _speak_last_words(self) -> None:
        with self._lock:
            due = dict(self._last_words)
        for claim, words in due.items():
            # Held until its end is recorded; the files are uploaded before that.
            if self._holdings.find(claim) is None:
                self._store.write(claim, words.written)
            elif self._clock() < words.until:
                continue
            with self._lock:
                del self._last_words[claim]


def _is_written(claim: Claim, written: Streams, row: Wanted) -> bool:
    sizes = (written["stdout"].total_bytes, written["stderr"].total_bytes)
    return row.claim == claim.number and sizes == (row.stdout_bytes, row.stderr_bytes)


def _end_of(output: OutputFile, written_bytes: int) -> Written:
    """The end of what was written, from the file that was kept of it. Raises OSError."""
    cut = find_cut(stored_bytes=output.size_bytes, written_bytes=written_bytes)
    tail = output.tail(TAIL_BYTES if cut is None else min(TAIL_BYTES, cut.tail_bytes))
    return Written(total_bytes=max(written_bytes, len(tail)), tail=tail)
