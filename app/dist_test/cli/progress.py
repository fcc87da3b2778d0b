"""How a job's progress is shown: a live bar on a terminal, one plain line for each change in a pipe."""

import sys
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from dist_test.cli.clock import Clock
from dist_test.cli.messages import printable
from dist_test.cli.records import Attempt, Job

_RESULT_STYLES = {"succeeded": "bold green", "failed": "bold red", "canceled": "bold yellow"}


class Progress(Protocol):
    """Shows one job. Use it as a context; `finish` is called inside, with the finished job."""

    def __enter__(self) -> "Progress": ...

    def __exit__(self, *_: object) -> None: ...

    def update(self, job: Job) -> None: ...

    def finish(self, job: Job) -> None: ...


class FailedTasks(Protocol):
    """Where the failed tasks of the job come from; see failures.py."""

    def new(self, job: Job) -> list[Attempt]: ...

    def more(self, job: Job) -> int: ...


def standard_console() -> Console:
    """Standard output. A terminal is one only if it is one: FORCE_COLOR, as CI systems set it, makes none of a pipe."""
    return Console(force_terminal=sys.stdout.isatty())


def progress_on(console: Console, clock: Clock, failed_tasks: FailedTasks) -> Progress:
    """The kind of progress that suits the console. Only a terminal lists failed tasks."""
    if console.is_terminal and not console.is_dumb_terminal:
        return TerminalProgress(console, clock, failed_tasks)
    return PlainProgress(console, clock)


class PlainProgress:
    """Lines such as ` 12.3s\\t 40/120 tests complete (2 failed) (1 retries)`: scripts have read the original's."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._started = clock.now()
        self._last = ""

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, job: Job) -> None:
        counters = job.counters
        line = f"{counters.finished_tasks}/{counters.total_tasks} tests complete"
        if counters.failed_tasks:
            line += f" ({counters.failed_tasks} failed)"
        if counters.retried_attempts:
            line += f" ({counters.retried_attempts} retries)"
        if line != self._last:
            self._print(f"{self._clock.now() - self._started:5.1f}s\t {line}")
        self._last = line

    def finish(self, job: Job) -> None:
        self._print(closing_line(job, self._clock.now() - self._started))

    def _print(self, line: str) -> None:
        # Past rich, which would wrap at 80 columns and expand the tab.
        self._console.file.write(f"{line}\n")
        self._console.file.flush()


class TerminalProgress:
    """A bar that moves by itself between two updates, with failed tasks listed above it."""

    def __init__(self, console: Console, clock: Clock, failed_tasks: FailedTasks) -> None:
        self._console = console
        self._clock = clock
        self._failed_tasks = failed_tasks
        self._started = clock.now()
        self._bar = Bar(
            BarColumn(bar_width=None),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            _TimeLeftColumn(clock),
            console=console,
            get_time=clock.now,
            refresh_per_second=4,
            transient=True,
            expand=True,
            # Only what would write over the bar has to pass through it.
            redirect_stderr=_is_same_terminal(console),
        )
        self._task = self._bar.add_task("", total=None, counts="", ends_at=None)

    def __enter__(self) -> "TerminalProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, job: Job) -> None:
        for attempt in self._failed_tasks.new(job):
            self._print_failure(attempt)
        left = seconds_left(job, self._clock.now() - self._started)
        self._bar.update(
            self._task,
            total=job.counters.total_tasks,
            completed=job.counters.finished_tasks,
            counts=_counts(job),
            ends_at=None if left is None else self._clock.now() + left,
            refresh=True,
        )

    def finish(self, job: Job) -> None:
        self._bar.stop()
        if (more := self._failed_tasks.more(job)) > 0:
            self._console.print(Text(f"... and {more} more failed tasks"))
        line = closing_line(job, self._clock.now() - self._started)
        self._console.print(Text(line, style=_RESULT_STYLES.get(job.result or "", "")), soft_wrap=True)

    def _print_failure(self, attempt: Attempt) -> None:
        line = Text.assemble(("FAILED", "bold red"), f" {describe_failure(attempt)}")
        self._console.print(line, soft_wrap=True)
        if link := attempt.stderr_url or attempt.stdout_url:
            self._console.print(Text(f"       {link}", style="dim"), soft_wrap=True)


class _TimeLeftColumn(ProgressColumn):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def render(self, task: Task) -> Text:
        ends_at = task.fields["ends_at"]
        if ends_at is None:
            return Text("-:--:-- left", style="cyan")
        left = timedelta(seconds=max(0, round(ends_at - self._clock.now())))
        return Text(f"{left} left", style="cyan")


def seconds_left(job: Job, elapsed_seconds: float) -> float | None:
    """When the job will be done: what the master expects, else at the rate so far; None when nobody can tell."""
    counters = job.counters
    if job.expected_seconds_left is not None:
        return job.expected_seconds_left
    if not counters.finished_tasks:
        return None
    return elapsed_seconds * (counters.total_tasks - counters.finished_tasks) / counters.finished_tasks


def describe_failure(attempt: Attempt) -> str:
    """One failed attempt in one line."""
    if attempt.outcome == "failed" and attempt.exit_status is not None:
        how = f"signal {-attempt.exit_status}" if attempt.exit_status < 0 else f"exit code {attempt.exit_status}"
    else:
        how = (attempt.outcome or "failed").replace("_", " ")
    tries = f", attempt {attempt.attempt + 1}" if attempt.attempt else ""
    return printable(f"{attempt.description} ({how}{tries})")


def closing_line(job: Job, elapsed_seconds: float) -> str:
    """The result and where to look at it."""
    counters = job.counters
    parts = [f"{counters.total_tasks} tests"]
    parts += [f"{counters.failed_tasks - counters.canceled_tasks} failed"]
    parts += [f"{counters.canceled_tasks} canceled"] if counters.canceled_tasks else []
    parts += [f"{counters.flaky_tasks} flaky"] if counters.flaky_tasks else []
    reason = f": {printable(job.cancel_reason)}" if job.result == "canceled" and job.cancel_reason else ""
    result = f"Job {job.job_id} {_RESULT_PHRASES.get(job.result or '', job.result)}{reason}"
    return f"{result} ({', '.join(parts)}; watched for {elapsed_seconds:.1f}s) {job.url}"


_RESULT_PHRASES = {"succeeded": "succeeded", "failed": "failed", "canceled": "was canceled"}


def _counts(job: Job) -> str:
    counters = job.counters
    parts = [f"[bold]{counters.finished_tasks}/{counters.total_tasks}[/bold]", f"{job.running_attempts} running"]
    parts += [f"[red]{counters.failed_tasks} failed[/red]"] if counters.failed_tasks else []
    parts += [f"[yellow]{counters.flaky_tasks} flaky[/yellow]"] if counters.flaky_tasks else []
    parts += [f"{counters.retrying_tasks} retrying"] if counters.retrying_tasks else []
    return "  ".join(parts)


def _is_same_terminal(console: Console) -> bool:
    return console.is_terminal and sys.stderr.isatty()
