"""The log of one attempt as far as there is one: the live end of it while it runs, what was stored once it has ended.

Offsets count what the command has written, from the first byte on, in both. So whoever follows an attempt goes on where
they were when it ends. What nobody has kept is left out, and counted.
"""

import base64
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from dist_test.errors import TaskNotFound
from dist_test.model.cut_log import find_cut
from dist_test.model.result_key import STDERR, STDOUT, result_key
from dist_test.model.task import AttemptKey, task_index
from dist_test.model.written import NOTHING_WRITTEN, Written
from dist_test.storage.jobs import AttemptRecord, Jobs
from dist_test.storage.live_logs import LiveLog, LiveLogs

MAX_PART_BYTES = 2**20
_END_BYTES = 2**16  # of a stored log, for who comes with an offset that has no place in it
# The slave writes the last bytes once the end is recorded. One that has died, or has no database, never does.
_SETTLES_WITHIN = timedelta(seconds=3)
_LONGEST_CHARACTER = 4  # bytes in UTF-8


class StreamName(StrEnum):
    """Which of an attempt's two streams."""

    STDOUT = STDOUT
    STDERR = STDERR


class Encoding(StrEnum):
    """How a piece of a log travels in JSON."""

    TEXT = "text"  # in whole characters, U+FFFD for what is not UTF-8
    BASE64 = "base64"  # every byte as it was


class StoredLogs(Protocol):
    """Where the logs of attempts are that ended without success."""

    def read_range(self, key: str, *, start: int, size_bytes: int) -> bytes: ...


class Place(NamedTuple):
    """Where in a stored log to read, and which offset of the output that is."""

    position: int
    offset: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class LogPart:
    """A piece of one stream of an attempt.

    data: begins at `offset`, which is more than was asked for by `left_out_bytes`: those are not to be had. Ask for
    `next_offset` next. is_final: there is nothing after this. is_stored: the log is kept; False for what runs, and for
    what succeeded. latest_attempt: of the same task; a higher one than `attempt` means that it is retried.
    """

    attempt: AttemptRecord
    latest_attempt: int
    stream: str
    offset: int
    data: bytes
    left_out_bytes: int
    is_final: bool
    is_stored: bool

    @property
    def next_offset(self) -> int:
        return self.offset + len(self.data)

    @property
    def text(self) -> str:
        """The data, with U+FFFD for what is not UTF-8."""
        return self.data.decode(errors="replace")

    def at_characters(self) -> "LogPart":
        """The same without the pieces of characters that were cut in two at its edges."""
        begin = _broken_begin(self.data) if self.left_out_bytes else 0
        end = len(self.data) if self.is_final else len(self.data) - _broken_end(self.data)
        return replace(
            self,
            offset=self.offset + begin,
            data=self.data[begin : max(begin, end)],
            left_out_bytes=self.left_out_bytes + begin,
        )


class Live:
    """Reads logs. Safe to share between threads."""

    def __init__(self, jobs: Jobs, logs: LiveLogs, results: StoredLogs) -> None:
        self._jobs = jobs
        self._logs = logs
        self._results = results

    def read(
        self, job_id: str, task: str, *, stream: str = STDOUT, attempt: int | None = None, offset: int = 0
    ) -> LogPart:
        """What there is from `offset` on, at most MAX_PART_BYTES of it.

        task: its id, or its place in the job. attempt: None for the latest. While the attempt is not finished, each
        call has its slave write more for a while. Raises JobNotFound, TaskNotFound, ResultNotFound,
        ResultStoreUnavailable, DatabaseUnavailable.
        """
        found, latest = self._find(job_id, task, attempt)
        log = self._logs.look(found.key, stream, wants_more=found.state != "finished")
        written = _under(found.claim, log)
        part = LogPart(
            attempt=found,
            latest_attempt=latest,
            stream=stream,
            offset=offset,
            data=b"",
            left_out_bytes=0,
            is_final=False,
            is_stored=False,
        )
        size = _stored_bytes(found, stream)
        if found.finished_at is None or not _is_settled(found, log):
            live = _live(part, written)
            # What the live end has no more, the stored log still has: it only needs the number that is to come.
            return part if size is not None and live.left_out_bytes else live
        if size is None:
            return replace(_live(part, written), is_final=True)
        total = written.total_bytes if _is_whole(found, log) else None
        return self._stored(job_id, part, size, total)

    def _find(self, job_id: str, task: str, number: int | None) -> tuple[AttemptRecord, int]:
        job_key = self._jobs.get(job_id).job_key
        index = task_index(task)
        latest = None if index is None else self._jobs.latest_attempt(job_key, index)
        if index is None or latest is None or task not in (latest.task_id, str(index)):
            raise TaskNotFound(f"job {job_id} has no task {task}; give a task id, or a task's place in the job from 0")
        found = latest
        if number is not None and number != latest.key.attempt:
            earlier = self._jobs.attempt(AttemptKey(job_key, index, number))
            if earlier is None:
                raise TaskNotFound(
                    f"task {task} of job {job_id} has no attempt {number}; its latest is {latest.key.attempt}"
                )
            found = earlier
        return found, latest.key.attempt

    def _stored(self, job_id: str, part: LogPart, size: int, total: int | None) -> LogPart:
        place = place_in_stored(part.offset, stored_bytes=size, written_bytes=total)
        key = result_key(job_id, part.attempt.task_id, part.attempt.key.attempt, part.attempt.claim, part.stream)
        wanted = min(place.size_bytes, MAX_PART_BYTES)
        data = self._results.read_range(key, start=place.position, size_bytes=wanted) if wanted else b""
        return replace(
            part,
            offset=place.offset,
            data=data,
            left_out_bytes=max(0, place.offset - part.offset),
            is_final=place.position + wanted >= size,
            is_stored=True,
        )


def log_document(part: LogPart, encoding: Encoding) -> dict[str, Any]:
    """A piece of a log as `/api/v1` shows it. PURE."""
    shown = part.at_characters() if encoding is Encoding.TEXT else part
    attempt = shown.attempt
    return {
        "task_id": attempt.task_id,
        "attempt": attempt.key.attempt,
        "latest_attempt": shown.latest_attempt,
        "run": attempt.claim,
        "state": attempt.state,
        "outcome": attempt.outcome,
        "message": attempt.message,
        "stream": shown.stream,
        "offset": shown.offset,
        "next_offset": shown.next_offset,
        "left_out_bytes": shown.left_out_bytes,
        "is_final": shown.is_final,
        "is_stored": shown.is_stored,
        "encoding": encoding.value,
        "data": shown.text if encoding is Encoding.TEXT else base64.b64encode(shown.data).decode(),
    }


def place_in_stored(offset: int, *, stored_bytes: int, written_bytes: int | None) -> Place:
    """Where a stored log goes on from an offset of the command's output. PURE.

    written_bytes: how much the command wrote; None when nobody knows. Then offsets are those of the stored log, its
    line about what is missing included.
    """
    cut = None if written_bytes is None else find_cut(stored_bytes=stored_bytes, written_bytes=written_bytes)
    if cut is None or written_bytes is None:
        # An offset that a live log had, and this one cannot have: it was cut, and nobody knows where.
        position = offset if offset <= stored_bytes else max(0, stored_bytes - _END_BYTES)
        return Place(position, offset, stored_bytes - position)
    if offset < cut.head_bytes:
        return Place(offset, offset, cut.head_bytes - offset)
    begin = min(max(offset, written_bytes - cut.tail_bytes), written_bytes)
    return Place(stored_bytes - (written_bytes - begin), begin, written_bytes - begin)


def _live(part: LogPart, written: Written) -> LogPart:
    begin = min(max(part.offset, written.tail_begins), max(part.offset, written.total_bytes))
    return replace(
        part,
        offset=begin,
        data=written.tail[begin - written.tail_begins :],
        left_out_bytes=begin - part.offset,
    )


def _under(claim: int, log: LiveLog | None) -> Written:
    """What was written under this claim: an earlier one's output is that of a run that does not count."""
    return log.written if log is not None and log.claim == claim else NOTHING_WRITTEN


def _is_whole(attempt: AttemptRecord, log: LiveLog | None) -> bool:
    """Whether the row has all that the command wrote: the slave wrote it after the end was recorded."""
    if log is None or log.claim != attempt.claim or log.written_at is None or attempt.finished_at is None:
        return False
    return log.written_at >= attempt.finished_at


def _is_settled(attempt: AttemptRecord, log: LiveLog | None) -> bool:
    """Whether nothing is to come any more. Without a row nobody has watched, and nothing was to come."""
    if log is None or attempt.finished_at is None or _is_whole(attempt, log):
        return True
    return log.now - attempt.finished_at > _SETTLES_WITHIN


def _stored_bytes(attempt: AttemptRecord, stream: str) -> int | None:
    return {STDOUT: attempt.stdout_bytes, STDERR: attempt.stderr_bytes}[stream]


def _broken_begin(data: bytes) -> int:
    """How many bytes at the begin are the rest of a character."""
    begin = 0
    while begin < min(len(data), _LONGEST_CHARACTER - 1) and _is_continuation(data[begin]):
        begin += 1
    return begin


def _broken_end(data: bytes) -> int:
    """How many bytes at the end are the begin of a character that is not all there."""
    for length in range(1, min(len(data), _LONGEST_CHARACTER - 1) + 1):
        byte = data[-length]
        if not _is_continuation(byte):
            return length if _character_bytes(byte) > length else 0
    return 0


def _is_continuation(byte: int) -> bool:
    return byte & 0b1100_0000 == 0b1000_0000


def _character_bytes(first: int) -> int:
    """How long a character is that begins with this byte; 1 for what begins none."""
    if 0xC2 <= first <= 0xDF:
        return 2
    if 0xE0 <= first <= 0xEF:
        return 3
    return 4 if 0xF0 <= first <= 0xF4 else 1
