"""The Runner's end of a launcher: starting it, giving it work, and ending it together with all that it runs."""

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dist_test
from dist_test.errors import RunError
from dist_test.running import processes
from dist_test.running.channel import receive, send, send_if_room
from dist_test.running.tails import TailsRequest
from dist_test.running.users import TaskUser
from dist_test.running.wire import Done, Work

_STOP_SECONDS = 5.0
_LOOK_INTERVAL_SECONDS = 5.0  # how late a deadline that a cancel has moved is seen
# Isolated and without site-packages: the standard library and this package are enough, and it starts sooner.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from dist_test.running import launcher; launcher.main(sys.argv[2:])"
)

# Called while a launcher works, at first at once; it says after how many seconds to call it again, None for never.
Meanwhile = Callable[[], float | None]


class LauncherLostError(Exception):
    """The launcher ended, or stopped answering, while it had work."""


class LauncherProcess:
    """One running launcher. `user` None: it runs as we do."""

    def __init__(self, attempt_dir: Path, user: TaskUser | None, lock_fd: int) -> None:
        """Start it and wait until it is ready. Raises RunError when it cannot work here.

        lock_fd: held open until it has cleaned up, even when we are killed before that.
        """
        self._user = user
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = self._spawn(theirs, attempt_dir, lock_fd)
        self._answers = select.poll()
        self._answers.register(self._socket, select.POLLIN)
        try:
            error = self._receive().error
        except (EOFError, ConnectionError):
            error = "the launcher ended as it started; its own message is on stderr"
        if error:
            self.stop()
            raise RunError(error)

    @property
    def pid(self) -> int:
        return self._process.pid

    def give(self, work: Work, fds: tuple[int, ...] = ()) -> None:
        """Send work; take its answer with `answer`. Raises LauncherLostError."""
        try:
            send(self._socket, work, fds)
        except OSError as error:
            raise LauncherLostError from error

    def cancel(self, serial: int) -> None:
        """Ask it to end the command of this serial; without effect when that has ended. Any thread may."""
        try:
            send(self._socket, {"cancel": serial})
        except OSError:
            return  # the launcher is gone; whoever waits for its answer finds out and ends the attempt

    def ask_for_tails(self, serial: int, request: TailsRequest) -> bool:
        """Ask for what the command of this serial has written; False when that cannot be. Any thread may.

        A launcher that does not run this command at the moment may never answer.
        """
        try:
            return send_if_room(self._socket, {"tails": serial}, request.fd)
        except OSError:
            return False

    def answer(self, deadline: Callable[[], float | None], meanwhile: Meanwhile = lambda: None) -> Done:
        """Wait for the answer until `deadline` (monotonic seconds, may change meanwhile). Raises LauncherLostError."""
        call_at: float | None = time.monotonic()
        try:
            while True:
                if call_at is not None and time.monotonic() >= call_at:
                    seconds = meanwhile()
                    call_at = time.monotonic() + seconds if seconds is not None else None
                if self._answers.poll(_milliseconds_until(deadline(), call_at)):
                    return self._receive()
                due = deadline()
                if due is not None and time.monotonic() >= due:
                    raise LauncherLostError
        except (EOFError, ConnectionError) as error:
            raise LauncherLostError from error

    def stop(self) -> None:
        """End it: it kills what it runs, then itself. One that does not is killed."""
        self._socket.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self, marker: str) -> None:
        """End it and all of its attempt, when it no longer does that itself. Raises RunError when some are left.

        marker: NAME=value in the environment of the attempt's processes, to know them by where there is no own user.
        """
        self._process.kill()
        self._process.wait()
        self._socket.close()
        if self._user is not None:
            left = processes.end_processes_of(self._user.uid, self._user.gid)
        else:
            left = processes.end_processes_marked(marker)
        if left:
            raise RunError(f"processes {left} of the attempt are still there after SIGKILL")

    def _spawn(self, theirs: socket.socket, attempt_dir: Path, lock_fd: int) -> subprocess.Popen[bytes]:
        uid, gid = (self._user.uid, self._user.gid) if self._user else (-1, -1)
        root = Path(dist_test.__file__).parents[1]
        arguments = [root, theirs.fileno(), lock_fd, attempt_dir, uid, gid]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno(), lock_fd],
            env={"LANG": "C.UTF-8"}, cwd="/", start_new_session=True,
        )  # fmt: skip

    def _receive(self) -> Done:
        message, fds = receive(self._socket)
        for fd in fds:
            os.close(fd)
        return Done.from_message(message)


def _milliseconds_until(*dues: float | None) -> float:
    now = time.monotonic()
    seconds = min((due - now for due in dues if due is not None), default=_LOOK_INTERVAL_SECONDS)
    return max(0.0, min(_LOOK_INTERVAL_SECONDS, seconds)) * 1000
