"""Run one claimed attempt: its files, its command, and what to record about it."""

import logging
import signal
from dataclasses import dataclass
from datetime import timedelta

from dist_test.errors import IsolateError, RunError
from dist_test.isolate.cache import BlobCache, CachedTree
from dist_test.model.outcome import Outcome
from dist_test.model.task import QueueEntry
from dist_test.running.cached import entries_of
from dist_test.running.launcher_process import Meanwhile
from dist_test.running.records import RunRequest, RunResult
from dist_test.running.runner import Runner
from dist_test.slave.holdings import Holding
from dist_test.slave.uploads import Uploaded
from dist_test.storage.finishes import Result

logger = logging.getLogger(__name__)

TAIL_BYTES = 2000  # of stderr, in which the last line is looked for
MAX_LINE_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class SetupFailure:
    """The command never ran, for a reason that is not the test's own."""

    reason: str


def run_attempt(
    holding: Holding, cache: BlobCache, runner: Runner, *, meanwhile: Meanwhile
) -> RunResult | SetupFailure | None:
    """Fetch the attempt's files and run it; None when it was stopped before its command began.

    meanwhile: called while the command runs.
    """
    try:
        with cache.checkout(holding.entry.task.isolate_hash) as cached:
            if holding.stopped:
                return None
            request = _request(holding.entry, cached)
            holding.on_look(runner.ask_for_tails)
            return runner.run(request, on_started=lambda: holding.on_stop(runner.cancel), meanwhile=meanwhile)
    except (IsolateError, RunError, OSError) as exc:
        logger.warning("Could not set up %s: %s", holding.entry.name, exc, extra={"action": "setup_failed"})
        return SetupFailure(reason=str(exc))
    finally:
        # It is held until it is recorded, and may be lost until then; by then the runner has the next one.
        holding.ended()


def result_of(holding: Holding, ran: RunResult, uploaded: Uploaded) -> Result:
    """What to record of an attempt that ran."""
    return Result(
        claim=holding.claim,
        outcome=Outcome(ran.outcome),
        task=holding.entry.task,
        exit_status=ran.exit_status,
        duration_seconds=ran.duration.total_seconds(),
        waited_seconds=holding.waited_seconds,
        message=_message(holding.entry, ran, uploaded),
        stdout_bytes=uploaded.stdout_bytes,
        stderr_bytes=uploaded.stderr_bytes,
        artifact_bytes=uploaded.artifact_bytes,
        logs_lost=uploaded.is_lost,
    )


def setup_failed(holding: Holding, failure: SetupFailure) -> Result:
    """What to record of an attempt that could not be set up."""
    return Result(
        claim=holding.claim,
        outcome=Outcome.SETUP_FAILED,
        task=holding.entry.task,
        message=failure.reason,
    )


def _request(entry: QueueEntry, cached: CachedTree) -> RunRequest:
    task = entry.task
    if not cached.tree.command:
        raise RunError(f"{task.isolate_hash} has no command: it is a set of files, not a task")
    return RunRequest(
        entries=entries_of(cached),
        isolated=cached.isolated,
        command=cached.tree.command,
        relative_cwd=cached.tree.relative_cwd,
        env=dict(task.env),
        timeout=timedelta(seconds=task.timeout_seconds) if task.timeout_seconds else None,
        artifact_globs=task.artifact_globs,
        docker_image=task.docker_image,
        job_id=entry.job_id,
        task_id=entry.task_id,
        attempt=entry.key.attempt,
    )


def _message(entry: QueueEntry, ran: RunResult, uploaded: Uploaded) -> str:
    parts = [_verdict(entry, ran), *ran.notes]
    if uploaded.is_lost:
        parts.append("its logs and artifacts could not be stored")
    # A note of the runner's own may be the last line as well.
    if ran.outcome == "failed" and (line := _last_line(ran)) not in parts:
        parts.append(line)
    return "; ".join(part for part in parts if part)


def _verdict(entry: QueueEntry, ran: RunResult) -> str:
    if ran.outcome == "timed_out":
        return f"stopped at its limit of {entry.task.timeout_seconds} s"
    if ran.outcome == "succeeded" or ran.exit_status is None:
        return ""
    if ran.exit_status < 0:
        return f"killed by {_signal_name(-ran.exit_status)}"
    return f"exit code {ran.exit_status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"


def _last_line(ran: RunResult) -> str:
    lines = ran.stderr.tail(TAIL_BYTES).decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:MAX_LINE_CHARACTERS] if lines else ""
