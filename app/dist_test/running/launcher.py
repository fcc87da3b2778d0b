"""The program that runs attempts for one slot, as that slot's own user: started once by a Runner, it spawns fast.

It gives up its rights before it reads its first message, so links and names in a task's tree reach no further than
that user does, and killing everything of that user is a clean-up without races. When its Runner goes, it kills what
runs and ends.
"""

# Plain strings here: a Path costs more than the system call that it is made for.
# ruff: noqa: PTH103, PTH208

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from dist_test.running import artifacts, processes
from dist_test.running.channel import receive, send
from dist_test.running.command import ChildSignals, ProcessesLeftError, RunningCommand
from dist_test.running.litter import Litter
from dist_test.running.tree import empty_directory, make_private, remove_tree, write_tree
from dist_test.running.wire import Command, Done, Ended, Files, Work

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
# Emptied after each attempt, not removed: making and removing directories is what costs most for a small task.
ATTEMPT_DIRECTORIES = ("tree", "home", "tmp")


def main(arguments: Sequence[str]) -> NoReturn:
    """Serve one Runner: `SOCKET_FD LOCK_FD ATTEMPT_DIR UID GID`, where UID -1 means to stay who we are."""
    socket_fd, lock_fd, attempt_dir, *ids = arguments
    uid, gid = map(int, ids)
    control = socket.socket(fileno=int(socket_fd))
    control.set_inheritable(False)
    os.set_inheritable(int(lock_fd), False)
    own_user = uid != -1
    try:
        if own_user:
            _give_up_rights(uid, gid)
        _prepare_process()
        launcher = Launcher(control, attempt_dir=attempt_dir, own_user=own_user)
        launcher.clean()
    except OSError as error:
        send(control, Done(error=f"the launcher cannot work in {attempt_dir}: {error}"))
        sys.exit(1)
    send(control, Done())
    launcher.serve()
    sys.exit(0)


class Launcher:
    """Does one Work after the other."""

    def __init__(self, control: socket.socket, *, attempt_dir: str, own_user: bool) -> None:
        self._control = control
        self._attempt_dir = attempt_dir
        self._litter = Litter(os.getuid()) if own_user else None
        self._signals = ChildSignals()
        self._kill: Callable[[], None] = processes.kill_all_of_this_user if own_user else processes.kill_descendants

    def serve(self) -> None:
        """Answer messages until the Runner closes its end, or is gone."""
        while True:
            try:
                message, fds = receive(self._control)
                # A cancel or a request for tails that is read here came after its attempt had ended.
                if "cancel" in message or "tails" in message:
                    _close_all(fds)
                else:
                    send(self._control, self._answer(Work.from_message(message), fds))
            except (EOFError, ConnectionError):
                return

    def clean(self) -> None:
        """Make the attempt's directories empty again, whatever a task did to them, or an earlier launcher left."""
        make_private(self._attempt_dir)
        for name in os.listdir(self._attempt_dir):
            if name not in ATTEMPT_DIRECTORIES:
                remove_tree(f"{self._attempt_dir}/{name}")
        for name in ATTEMPT_DIRECTORIES:
            empty_directory(f"{self._attempt_dir}/{name}")
        if self._litter is not None:
            self._litter.remove()

    def _answer(self, work: Work, fds: list[int]) -> Done:
        try:
            return self._perform(work, fds)
        except (OSError, ValueError, ProcessesLeftError) as error:
            return Done(error=str(error))
        finally:
            _close_all(fds)

    def _perform(self, work: Work, fds: list[int]) -> Done:
        ended, archived = None, 0
        notes: list[str] = []
        try:
            if work.files:
                _write_files(f"{self._attempt_dir}/tree", work.files)
            if work.command:
                ended = self._run(work.command, work.serial, (fds[0], fds[1]))
                if ended.lost_output_bytes:
                    notes.append(f"{ended.lost_output_bytes} bytes of output were lost, since the disk was full")
            if work.archive:
                archived, said = _archive(f"{self._attempt_dir}/tree", work, fds[-1])
                notes += said
        finally:
            if work.clean:
                self.clean()
        return Done(ended=ended, archived=archived, notes=tuple(notes))

    def _run(self, command: Command, serial: int, outputs: tuple[int, int]) -> Ended:
        return RunningCommand(
            command,
            serial=serial,
            outputs=outputs,
            control=self._control,
            signals=self._signals,
            kill=self._kill,
        ).run()


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _give_up_rights(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _prepare_process() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # No test of this user may attach to us and borrow our descriptors.
    _prctl(libc, _PR_SET_DUMPABLE, 0)
    # Orphans of a task become our children: we can wait for them, and know when there are none.
    _prctl(libc, _PR_SET_CHILD_SUBREAPER, 1)
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a slave's thread may block signals; a task must not inherit that
    # Ctrl-C and stop signals are the Runner's business; it closes the socket.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, lambda _signal, _frame: None)


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed: {os.strerror(ctypes.get_errno())}")


def _write_files(tree: str, files: Files) -> None:
    write_tree(files.entries, tree, files.isolated.encode("utf-8", "surrogateescape"))
    if files.relative_cwd:
        os.makedirs(f"{tree}/{files.relative_cwd}", exist_ok=True)


def _archive(tree: str, work: Work, fd: int) -> tuple[int, list[str]]:
    try:
        with os.fdopen(os.dup(fd), "wb") as target:
            return artifacts.archive(tree, work.archive or [], target, limit_bytes=work.archive_limit_bytes)
    except OSError as error:
        # The outcome stands without its artifacts.
        return 0, [f"the artifacts could not be archived: {error}"]
