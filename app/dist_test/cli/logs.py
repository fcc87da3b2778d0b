"""`dist-test logs`: print what a task has written, and follow it while it runs."""

import codecs
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

import click

from dist_test.cli.clock import Clock, RealClock
from dist_test.cli.exit_status import ExitStatus
from dist_test.cli.master_client import WATCH_PATIENCE, MasterClient
from dist_test.cli.messages import printable, say
from dist_test.cli.records import LogPart
from dist_test.errors import TaskNotFound
from dist_test.settings import load_client_settings

POLL_SECONDS = 0.5  # as often as a slave writes
_SHOWN_TASKS = 10
_INTERRUPTED = 130  # what shells make of SIGINT
STDOUT, STDERR = "stdout", "stderr"


@click.command()
@click.argument("job_id", metavar="JOB")
@click.argument("task", metavar="TASK")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended, retries included.")
@click.option("--stdout", "only", flag_value=STDOUT, help="Standard output alone.")
@click.option("--stderr", "only", flag_value=STDERR, help="Standard error alone, on standard output.")
@click.option("--attempt", type=click.IntRange(0, 2**15), help="This attempt, from 0 on, instead of the latest.")
def logs(job_id: str, task: str, *, follow: bool, only: str | None, attempt: int | None) -> NoReturn:
    """Print what a task has written: the end of it while it runs, all of it once it has failed.

    TASK is a task id, the task's place in the job from 0 on, or a part of its description that no other task has. The
    log of a task that succeeded is not kept. With --follow, exits 0 when the task succeeded, 88 when it did not.
    """
    settings = load_client_settings()
    clock = RealClock()
    client = MasterClient.from_settings(settings, clock=clock, report=say)
    client.patience = WATCH_PATIENCE if follow else client.patience
    try:
        reader = LogReader(client, job_id, find_task(client, job_id, task), _screens(only), clock)
        status = reader.follow(attempt) if follow else reader.show(attempt)
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    raise SystemExit(status)


def find_task(client: MasterClient, job_id: str, name: str) -> str:
    """The id of the task that somebody calls so. Raises TaskNotFound, JobNotFound."""
    client.job(job_id)  # an unknown job is another mistake than an unknown task
    try:
        return client.log(job_id, name, stream=STDOUT, attempt=None, offset=0).task_id
    except TaskNotFound:
        found = client.tasks(job_id, name)
    exact = {task for task, description in found.items() if description == name}
    if len(exact) == 1 or len(found) == 1:
        return next(iter(exact or found))
    if not found:
        raise TaskNotFound(
            f"job {job_id} has no task {name}; give a task id, its place in the job from 0 on, or a part of its"
            " description as the job's web page shows it"
        )
    shown = [f"  {task}  {printable(description)}" for task, description in list(found.items())[:_SHOWN_TASKS]]
    more = [f"  ... and {len(found) - len(shown)} more"] if len(found) > len(shown) else []
    raise TaskNotFound(
        "\n".join([f"{len(found)} tasks of job {job_id} match {name!r}; give the id of one:", *shown, *more])
    )


@dataclass(kw_only=True)
class Screen:
    """Where one stream goes on, and how far it is."""

    stream: str
    write: Callable[[bytes], None]
    offset: int = 0
    is_over: bool = False

    def restart(self) -> None:
        self.offset, self.is_over = 0, False


class LogReader:
    """Prints the streams of one task."""

    def __init__(
        self, client: MasterClient, job_id: str, task_id: str, screens: Sequence[Screen], clock: Clock
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._task_id = task_id
        self._screens = screens
        self._clock = clock
        self._run: int | None = None
        self._has_moved = False

    def show(self, attempt: int | None) -> ExitStatus:
        """Print what there is."""
        last = self._advance(attempt)
        while last.state == "finished" and not self._is_over():
            last = self._go_on(last)
        _explain(last)
        return ExitStatus.SUCCESS

    def follow(self, attempt: int | None) -> ExitStatus:
        """Print until the task has ended; one attempt, or from the latest one on all retries."""
        last = self._advance(attempt)
        while True:
            if self._is_over():
                if last.outcome == "succeeded" or attempt is not None or last.latest_attempt <= last.attempt:
                    _explain(last)
                    return ExitStatus.SUCCESS if last.outcome == "succeeded" else ExitStatus.JOB_FAILED
                say(f"attempt {last.attempt} {_ending(last)}; following attempt {last.attempt + 1}")
                self._restart()
                last = self._advance(last.attempt + 1)
            else:
                last = self._go_on(last)

    def _go_on(self, last: LogPart) -> LogPart:
        # A stored log comes in pieces that are all there; of a running one there is more when the slave has written.
        if last.state != "finished" or not self._has_moved:
            self._clock.sleep(POLL_SECONDS)
        return self._advance(last.attempt)

    def _is_over(self) -> bool:
        return all(screen.is_over for screen in self._screens)

    def _restart(self) -> None:
        self._run = None
        for screen in self._screens:
            screen.restart()

    def _advance(self, attempt: int | None) -> LogPart:
        """Print what is new of each stream; give back the last answer."""
        self._has_moved = False
        for screen in self._screens:
            part = self._ask(screen, attempt)
            attempt = part.attempt
            self._has_moved |= bool(part.data)
            if part.left_out_bytes:
                say(f"{part.left_out_bytes} bytes of {part.stream} are left out here")
            screen.write(part.data)
            screen.offset, screen.is_over = part.next_offset, part.is_final
        return part

    def _ask(self, screen: Screen, attempt: int | None) -> LogPart:
        part = self._client.log(
            self._job_id, self._task_id, stream=screen.stream, attempt=attempt, offset=screen.offset
        )
        if self._run not in (None, part.run) and part.run and any(one.offset for one in self._screens):
            say("its slave was lost or left; the attempt runs again from its start")
            self._restart()
            part = self._client.log(self._job_id, self._task_id, stream=screen.stream, attempt=part.attempt, offset=0)
        self._run = part.run
        return part


def _explain(part: LogPart) -> None:
    if part.state != "finished":
        say(f"attempt {part.attempt} is {part.state}")
        return
    kept = "" if part.is_stored else "; the log is not kept"
    say(f"attempt {part.attempt} {_ending(part)}{kept}")


def _ending(part: LogPart) -> str:
    verdict = "is canceled" if part.outcome == "canceled" else str(part.outcome).replace("_", " ")
    return f"{verdict}: {printable(part.message)}" if part.message else verdict


def _screens(only: str | None) -> list[Screen]:
    if only is not None:
        return [Screen(stream=only, write=_writer(sys.stdout.buffer))]
    return [
        Screen(stream=STDOUT, write=_writer(sys.stdout.buffer)),
        Screen(stream=STDERR, write=_writer(sys.stderr.buffer)),
    ]


def _writer(target: BinaryIO) -> Callable[[bytes], None]:
    """What writes bytes to a file as they are, and to a terminal without what would act on it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(data: bytes) -> None:
        target.write(harmless(decoder.decode(data)).encode() if target.isatty() else data)
        target.flush()

    return write


def harmless(text: str) -> str:
    """The text without control characters, other than the ends of lines and tabs. PURE."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)
