"""Running the command of one attempt inside the launcher: its limits, its output, and the end of all its processes."""

import errno
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dist_test.running import processes, tails
from dist_test.running.channel import receive
from dist_test.running.output import CappedOutput
from dist_test.running.wire import CANCELED, FAILED, SUCCEEDED, TIMED_OUT, Command, Ended

_READ_BYTES = 2**18
_FINAL_READS = 64  # far more than a pipe holds; a bound, in case someone outside the attempt still writes to it
COMMAND_NOT_FOUND = 127
COMMAND_NOT_EXECUTABLE = 126
# What exec says about the command itself; all else (no memory, no process left) is this machine's fault.
_COMMANDS_OWN_ERRORS = {
    errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EISDIR, errno.ENOEXEC, errno.ELOOP, errno.ENAMETOOLONG,
    errno.E2BIG, errno.EPERM, errno.EINVAL, errno.ELIBBAD,
}  # fmt: skip


class ProcessesLeftError(Exception):
    """Processes of an attempt could not be killed."""


class ChildSignals:
    """Makes SIGCHLD readable, so that poll() wakes when a child ends. One per program; the main thread's."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)

    def clear(self) -> None:
        """Forget the signals so far; collect the children after this, never before."""
        try:
            os.read(self.fd, 512)
        except BlockingIOError:
            return


def resolve(command: str, cwd: str) -> str:
    """What to execute for `command[0]`: absolute against `cwd` if it is there or has a slash, else a name for PATH."""
    here = os.path.normpath(f"{cwd}/{command}") if not command.startswith("/") else command
    return here if "/" in command or os.path.lexists(here) else command


class RunningCommand:
    """One command, from its start to the end of every process that it left behind."""

    def __init__(
        self,
        command: Command,
        *,
        serial: int,
        outputs: tuple[int, int],
        control: socket.socket,
        signals: ChildSignals,
        kill: Callable[[], None],
    ) -> None:
        """`kill` sends SIGKILL to everything of the attempt; `outputs` are the files for stdout and stderr."""
        self._command = command
        self._serial = serial
        self._control = control
        self._signals = signals
        self._kill = kill
        self._stdout, self._stderr = (CappedOutput(fd, command.output_limit_bytes) for fd in outputs)
        self._streams: dict[int, CappedOutput] = {}
        self._poll = select.poll()
        self._pid = 0
        self._status: int | None = None
        self._outcome: str | None = None  # set once we end the command ourselves
        self._term_at: float | None = None
        self._kill_at: float | None = None
        self._final_reads_left = _FINAL_READS

    def run(self) -> Ended:
        """Run it and return how it ended.

        Raises EOFError when the Runner has gone, OSError when the output could not be written, ProcessesLeftError.
        """
        started = time.monotonic()
        try:
            exit_status = self._start_and_watch(started)
            seconds = time.monotonic() - started
        finally:
            self._end_processes()
            self._drain()
        self._stdout.finish()
        self._stderr.finish()
        lost_bytes = self._stdout.lost_bytes + self._stderr.lost_bytes
        return Ended(
            outcome=self._outcome or _outcome(exit_status),
            exit_status=exit_status,
            seconds=seconds,
            lost_output_bytes=lost_bytes,
            written_bytes=None if lost_bytes else (self._stdout.written_bytes, self._stderr.written_bytes),
        )

    def _start_and_watch(self, started: float) -> int:
        try:
            self._start()
        except OSError as error:
            if error.errno not in _COMMANDS_OWN_ERRORS:
                raise
            return self._report_exec_failure(error)
        except ValueError as error:  # a NUL in an argument, a `=` in a variable's name
            return self._report_bad_command(str(error))
        if self._command.timeout_seconds is not None:
            self._term_at = started + self._command.timeout_seconds
        return self._watch()

    def _start(self) -> None:
        ends = [self._open_pipe(self._stdout), self._open_pipe(self._stderr)]
        try:
            process = subprocess.Popen(
                [resolve(self._command.argv[0], self._command.cwd), *self._command.argv[1:]],
                cwd=self._command.cwd, env=self._command.env,
                stdin=subprocess.DEVNULL, stdout=ends[0], stderr=ends[1], start_new_session=True,
            )  # fmt: skip
        finally:
            for fd in ends:
                os.close(fd)
        self._pid = process.pid
        process.returncode = 0  # we collect it ourselves, with the orphans; Popen must not look for it

    def _open_pipe(self, output: CappedOutput) -> int:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read_end, False)
        self._streams[read_end] = output
        self._poll.register(read_end, select.POLLIN)
        return write_end

    def _watch(self) -> int:
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._signals.fd, select.POLLIN)
        while self._status is None:
            for fd, _ in self._poll.poll(self._milliseconds_to_wait()):
                self._handle(fd)
            self._enforce_limits(time.monotonic())
        return os.waitstatus_to_exitcode(self._status)

    def _handle(self, fd: int) -> None:
        if fd in self._streams:
            self._read(fd)
        elif fd == self._signals.fd:
            self._signals.clear()
            self._reap()
        else:
            self._take_message()

    def _reap(self) -> None:
        # All that have ended, not only the leader: the orphans of a long test must not pile up as zombies.
        ended: dict[int, int] = {}
        processes.reap(ended)
        self._status = ended.get(self._pid, self._status)

    def _take_message(self) -> None:
        message, fds = receive(self._control)
        try:
            # A message with another serial came too late for the attempt that it meant.
            if message.get("cancel") == self._serial and self._outcome is None:
                self._stop(CANCELED)
            elif message.get("tails") == self._serial:
                self._tell_tails(fds[0])
        finally:
            for fd in fds:
                os.close(fd)

    def _tell_tails(self, fd: int) -> None:
        # Somebody looks at the log. Whatever is in the way of that must not be in the way of the command.
        with suppress(OSError):
            tails.answer(fd, self._stdout.latest(), self._stderr.latest())

    def _milliseconds_to_wait(self) -> float | None:
        due = self._kill_at if self._kill_at is not None else self._term_at
        return None if due is None else max(0.0, due - time.monotonic()) * 1000

    def _enforce_limits(self, now: float) -> None:
        if self._status is not None:
            return
        if self._outcome is None and self._term_at is not None and now >= self._term_at:
            seconds = f"{self._command.timeout_seconds:g}"
            self._stderr.write(f"------\nKilling task after {seconds} seconds\n".encode())
            self._stop(TIMED_OUT)
        elif self._kill_at is not None and now >= self._kill_at:
            self._kill()
            self._kill_at = now + processes.KILL_INTERVAL_SECONDS

    def _stop(self, outcome: str) -> None:
        self._outcome = outcome
        os.killpg(self._pid, signal.SIGTERM)  # not collected yet, so the group is still its own
        self._kill_at = time.monotonic() + self._command.kill_grace_seconds

    def _read(self, fd: int) -> bool:
        """Take what is there; False when there was nothing."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._streams[fd].write(data)
        else:
            self._close(fd)
        return bool(data)

    def _close(self, fd: int) -> None:
        self._poll.unregister(fd)
        del self._streams[fd]
        os.close(fd)

    def _end_processes(self) -> None:
        # Only a command that ended by itself is followed by an orderly end of the rest.
        by_itself = self._status is not None and self._outcome is None
        all_ended = by_itself and processes.wait_for_children(self._command.settle_seconds)
        if not all_ended and self._command.remove_container:
            subprocess.run(
                self._command.remove_container, env=self._command.env, cwd="/", check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        if not processes.end_children(self._kill):
            raise ProcessesLeftError("processes of the attempt are still there after SIGKILL; the machine needs a look")

    def _drain(self) -> None:
        """Take what the pipes still hold: nobody writes any more, so nothing is lost and nothing waited for."""
        for fd in list(self._streams):
            try:
                while self._final_reads_left > 0 and self._read(fd):
                    self._final_reads_left -= 1
            finally:
                if fd in self._streams:
                    self._close(fd)

    def _report_exec_failure(self, error: OSError) -> int:
        name = self._command.argv[0]
        reason = error.strerror
        path = resolve(name, self._command.cwd)
        if error.errno == errno.ENOENT and Path(path).exists():
            reason = "its interpreter (the first line's #!, or the program's loader) is not on this machine"
        elif error.errno == errno.ENOEXEC:
            reason = "neither a program nor a script with a #! line"
        self._report_bad_command(str(reason))
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return COMMAND_NOT_FOUND if missing else COMMAND_NOT_EXECUTABLE

    def _report_bad_command(self, reason: str) -> int:
        name = self._command.argv[0]
        self._stderr.write(f"dist_test: cannot run {name}: {reason}\n".encode("utf-8", "backslashreplace"))
        return COMMAND_NOT_EXECUTABLE


def _outcome(exit_status: int) -> str:
    return SUCCEEDED if exit_status == 0 else FAILED
