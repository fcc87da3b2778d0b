"""What must hold when the last fault is over and the jobs have ended."""

import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from dist_test.model.outcome import Outcome
from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT, result_key
from dist_test.model.task import task_id

from ..farm import Farm
from .saboteur import Happened
from .schedule import ISOLATE, MARIADB, S3
from .workload import BY_NAME, Sort

# What failed for good during an outage may be recorded later: uploads are tried for 12 s, and the database may be away.
LINGER = timedelta(seconds=25)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A slave that claimed an attempt, or, with `released`, that handed it back."""

    at: datetime
    slave: str
    released: bool

    def __str__(self) -> str:
        return f"{self.slave} of {self.at:%H:%M:%S.%f}"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One recorded attempt. `executions`: how often its script began."""

    job_id: str
    index: int
    task_id: str
    number: int
    sort: Sort
    outcome: Outcome | None
    claim: int
    takeovers: int
    started_at: datetime | None
    finished_at: datetime | None
    logs_lost: bool
    sizes: Mapping[str, int | None]
    holders: Sequence[Holder]
    executions: int

    def __str__(self) -> str:
        return f"{self.job_id} task {self.index} attempt {self.number} ({self.sort.name})"

    @property
    def claims(self) -> int:
        return sum(not holder.released for holder in self.holders)

    def happened_during(self, happened: Happened) -> bool:
        """Whether a fault touched the time from its last claim to its end."""
        if self.started_at is None or self.finished_at is None:
            return False
        return happened.touches(self.started_at, self.finished_at, linger=LINGER)


class Wrong(NamedTuple):
    """Something that does not hold, of an attempt if there is one to name."""

    reason: str
    attempt: Attempt | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a run did, and everything that is wrong about it, with the events that led there."""

    attempts: Sequence[Attempt]
    audit: str
    wrong: Sequence[str]

    def __str__(self) -> str:
        attempts = self.attempts
        outcomes = Counter(attempt.outcome.value if attempt.outcome else "unfinished" for attempt in attempts)
        executions = sum(attempt.executions for attempt in attempts)
        again = executions - sum(attempt.outcome is not Outcome.SETUP_FAILED for attempt in attempts)
        takeovers = [attempt.takeovers for attempt in attempts]
        return "\n".join(
            (
                f"{len(attempts)} attempts: {', '.join(f'{number} {name}' for name, number in outcomes.items())}",
                f"{executions} executions, {again} of them more than were recorded",
                f"{sum(takeovers)} takeovers, at most {max(takeovers)} of one attempt",
                f"{sum(attempt.logs_lost for attempt in attempts)} logs lost while S3 was away",
                self.audit,
                *(f"WRONG: {reason}" for reason in self.wrong),
            )
        )


def judge(farm: Farm, job_ids: Sequence[str], marks: Path, happened: Sequence[Happened]) -> Verdict:
    """Look at everything that the jobs left in database, bucket, queue and marks."""
    executions = Counter(tuple(line.split()[:3]) for line in marks.read_text().splitlines())
    attempts = [attempt for job_id in job_ids for attempt in _attempts(farm, job_id, executions)]
    audit, breaches = _audit(farm)
    stored = {item.key: item.size_bytes for job_id in job_ids for item in farm.bucket.list(f"{job_id}/")}
    wrong = [
        *breaches,
        *wrong_endings(attempts),
        *wrong_executions(attempts, executions),
        *(one for job_id in job_ids for one in _wrong_counters(farm, job_id, attempts)),
        *(one for attempt in attempts for one in wrong_logs(attempt, stored, happened)),
        *(one for attempt in attempts for one in wrong_setup(attempt, happened)),
        *(one for attempt in attempts for one in wrong_takeovers(attempt, happened)),
    ]
    return Verdict(
        attempts=attempts,
        audit=audit,
        wrong=[_with_chain(farm, one) for one in wrong],
    )


def unfinished(farm: Farm, job_ids: Sequence[str]) -> Iterator[str]:
    """Some of the attempts that have not ended, with their events."""
    for job_id in job_ids:
        waiting = [attempt for attempt in _attempts(farm, job_id, Counter()) if attempt.outcome is None]
        for attempt in waiting[:5]:
            yield _with_chain(farm, Wrong(f"{attempt} has not ended", attempt))


def _with_chain(farm: Farm, wrong: Wrong) -> str:
    if wrong.attempt is None:
        return wrong.reason
    attempt = wrong.attempt
    rows = farm.sql(
        "SELECT at, kind, actor, claim, delivery, detail FROM events JOIN jobs USING (job_key)"
        " WHERE job_id = :job_id AND task_index = :index AND attempt = :number ORDER BY event_id",
        job_id=attempt.job_id,
        index=attempt.index,
        number=attempt.number,
    )
    chain = (
        f"    {row.at:%H:%M:%S.%f} {row.kind} by {row.actor}, claim {row.claim}, delivery {row.delivery}, {row.detail}"
        for row in rows
    )
    return "\n".join((wrong.reason, *chain))


def _audit(farm: Farm) -> tuple[str, list[Wrong]]:
    """What the audit of all jobs says, and the same as a breach, with chains of events, when it is not clean."""
    try:
        return farm.operate("audit").strip(), []
    except subprocess.CalledProcessError as exc:
        return "the audit is not clean", [Wrong(f"the audit says: {exc.stdout}{exc.stderr}")]


def _attempts(farm: Farm, job_id: str, executions: Counter[tuple[str, ...]]) -> Iterator[Attempt]:
    holders = _holders(farm, job_id)
    rows = farm.sql(
        "SELECT attempts.*, tasks.isolate_hash, tasks.description FROM attempts"
        " JOIN tasks USING (job_key, task_index) JOIN jobs USING (job_key)"
        " WHERE job_id = :job_id ORDER BY task_index, attempt",
        job_id=job_id,
    )
    for row in rows:
        name = task_id(row.isolate_hash, row.task_index)
        yield Attempt(
            job_id=job_id,
            index=row.task_index,
            task_id=name,
            number=row.attempt,
            sort=BY_NAME[row.description.split()[0]],
            outcome=Outcome(row.outcome) if row.outcome else None,
            claim=row.claim,
            takeovers=row.takeovers,
            started_at=_aware(row.started_at),
            finished_at=_aware(row.finished_at),
            logs_lost=bool(row.logs_lost),
            sizes={STDOUT: row.stdout_bytes, STDERR: row.stderr_bytes, ARTIFACTS: row.artifact_bytes},
            holders=holders.get((row.task_index, row.attempt), ()),
            executions=executions[job_id, name, str(row.attempt)],
        )


def _holders(farm: Farm, job_id: str) -> dict[tuple[int, int], list[Holder]]:
    rows = farm.sql(
        "SELECT task_index, attempt, kind, actor, at FROM events JOIN jobs USING (job_key)"
        " WHERE job_id = :job_id AND kind IN ('claimed', 'released') ORDER BY event_id",
        job_id=job_id,
    )
    found: dict[tuple[int, int], list[Holder]] = {}
    for row in rows:
        holder = Holder(at=row.at.replace(tzinfo=UTC), slave=row.actor, released=row.kind == "released")
        found.setdefault((row.task_index, row.attempt), []).append(holder)
    return found


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def _by_task(attempts: Sequence[Attempt]) -> Iterator[list[Attempt]]:
    for _, group in groupby(attempts, key=lambda attempt: (attempt.job_id, attempt.index)):
        yield list(group)


def wrong_endings(attempts: Sequence[Attempt]) -> Iterator[Wrong]:
    for task in _by_task(attempts):
        if [attempt.number for attempt in task] != list(range(len(task))):
            yield Wrong(f"{task[-1]}: its attempts are {[attempt.number for attempt in task]}", task[-1])
        if (reason := task[0].sort.what_is_wrong([attempt.outcome for attempt in task])) is not None:
            yield Wrong(f"{task[-1]}: {reason}", task[-1])


def _wrong_counters(farm: Farm, job_id: str, attempts: Sequence[Attempt]) -> Iterator[Wrong]:
    """The audit compares them with a recount of the attempts; here with what was asked for."""
    tasks = [task for task in _by_task(attempts) if task[0].job_id == job_id]
    outcomes = [[attempt.outcome for attempt in task] for task in tasks]
    succeed = sum(task[0].sort.failures is not None for task in tasks)
    right = {
        "total_tasks": len(tasks),
        "finished_tasks": len(tasks),
        "succeeded_tasks": succeed,
        "failed_tasks": len(tasks) - succeed,
        "canceled_tasks": 0,
        "flaky_tasks": sum(ended[-1] is Outcome.SUCCEEDED and Outcome.FAILED in ended for ended in outcomes),
        "retrying_tasks": 0,
        "timed_out_attempts": 0,
        "total_attempts": sum(map(len, outcomes)),
        "finished_attempts": sum(map(len, outcomes)),
    }
    counters = farm.job(job_id)["counters"]
    for name, number in right.items():
        if counters[name] != number:
            yield Wrong(f"{job_id}: its counter {name} is {counters[name]}, right is {number}")


def wrong_logs(attempt: Attempt, stored: Mapping[str, int], happened: Sequence[Happened]) -> Iterator[Wrong]:
    if attempt.logs_lost:
        if not any(one.fault.target == S3 and attempt.happened_during(one) for one in happened):
            yield Wrong(f"{attempt}: its logs are lost, though S3 was not away", attempt)
        return
    due = {STDOUT, STDERR} if attempt.outcome is Outcome.FAILED else set()
    if attempt.outcome in (Outcome.FAILED, Outcome.SUCCEEDED) and attempt.sort.has_artifact:
        due.add(ARTIFACTS)
    for name, size in attempt.sizes.items():
        key = result_key(attempt.job_id, attempt.task_id, attempt.number, attempt.claim, name)
        if (size is not None) != (name in due):
            yield Wrong(f"{attempt}: its size of {name} is {size}", attempt)
        if name in due and stored.get(key) != size:
            yield Wrong(f"{attempt}: {key} has {stored.get(key)} bytes, its row says {size}", attempt)


def wrong_setup(attempt: Attempt, happened: Sequence[Happened]) -> Iterator[Wrong]:
    if attempt.outcome is not Outcome.SETUP_FAILED:
        return
    if not any(one.fault.target == ISOLATE and attempt.happened_during(one) for one in happened):
        yield Wrong(f"{attempt}: it could not be set up, though the isolate server was not away", attempt)


def wrong_executions(attempts: Sequence[Attempt], executions: Counter[tuple[str, ...]]) -> Iterator[Wrong]:
    for attempt in attempts:
        if attempt.executions > attempt.claims:
            reason = f"its script began {attempt.executions} times under {attempt.claims} claims"
            yield Wrong(f"{attempt}: {reason}", attempt)
        if attempt.outcome is not Outcome.SETUP_FAILED and attempt.executions == 0:
            yield Wrong(f"{attempt}: it ended {attempt.outcome}, and its script never began", attempt)
    recorded = {(attempt.job_id, attempt.task_id, str(attempt.number)) for attempt in attempts}
    for key in executions.keys() - recorded:
        yield Wrong(f"{key} ran, and is no attempt")


def wrong_takeovers(attempt: Attempt, happened: Sequence[Happened]) -> Iterator[Wrong]:
    """Leases on it that lapsed although nothing had happened to their holder or to the database."""
    for earlier, later in pairwise(attempt.holders):
        causes = [one for one in happened if one.fault.target in (earlier.slave, MARIADB)]
        is_takeover = not earlier.released and not later.released
        if is_takeover and not any(one.touches(earlier.at, later.at) for one in causes):
            yield Wrong(f"{attempt}: {earlier} lost it to {later}, for no reason", attempt)
