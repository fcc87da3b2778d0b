"""Runs attempts one after the other: a private tree, a command under limits, its output, and nothing left."""

import itertools
import os
import pwd
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from dist_test.errors import RunError
from dist_test.running import container as containers
from dist_test.running import processes
from dist_test.running.container import ContainerProgram
from dist_test.running.environment import DEFAULT_PATH, RUN_MARKER, task_environment
from dist_test.running.launcher_process import LauncherLostError, LauncherProcess, Meanwhile
from dist_test.running.records import RunRequest, RunResult
from dist_test.running.result_files import ResultFiles
from dist_test.running.tails import TailsRequest
from dist_test.running.users import TaskUser
from dist_test.running.wire import CANCELED, FAILED, MAX_ARTIFACT_BYTES, Command, Done, Ended, Files, Work
from dist_test.running.work_dir import WorkDir

DEFAULT_OUTPUT_LIMIT_BYTES = 20 * 2**20  # per stream
DEFAULT_KILL_GRACE = timedelta(seconds=5)  # what the original gave between SIGTERM and SIGKILL
# Writing, archiving and removing a tree may take this long beside the command; then the launcher counts as stuck.
DEFAULT_PATIENCE = timedelta(minutes=5)
# What the engine may still have to do once its program has ended: podman's monitor removes the container.
_CONTAINER_SETTLE_SECONDS = 10.0


@dataclass(kw_only=True)
class _Attempt:
    """The attempt that runs now. `launcher` is the one that has its work at this moment."""

    serial: int
    marker: str
    timeout: timedelta | None
    started: float
    launcher: LauncherProcess | None = None
    canceled_at: float | None = None


class Runner:
    """One slot. One thread calls run(); any thread may call cancel()."""

    def __init__(
        self,
        *,
        work_dir: Path,
        user: TaskUser | None,
        output_limit_bytes: int = DEFAULT_OUTPUT_LIMIT_BYTES,
        artifact_limit_bytes: int = MAX_ARTIFACT_BYTES,
        kill_grace: timedelta = DEFAULT_KILL_GRACE,
        container: ContainerProgram | None = None,
        base_environment: Mapping[str, str] | None = None,
        patience: timedelta = DEFAULT_PATIENCE,
    ) -> None:
        """`work_dir` is this slot's alone, and `user` must be able to get there. Nothing is touched before start().

        user None: tasks run as we do. Then "everything of the task" is what descends from it, a weaker promise:
        a task can outlive it by ending its launcher and clearing its environment.
        """
        self._work_dir = WorkDir(work_dir, user)
        self._user = user
        self._output_limit_bytes = output_limit_bytes
        self._artifact_limit_bytes = artifact_limit_bytes
        self._kill_grace = kill_grace
        self._container = container
        self._base_environment = dict(base_environment or {})
        self._patience = patience
        self._user_name = _name_of(user)
        self._marker = secrets.token_hex(6)
        self._serials = itertools.count(1)
        self._lock = threading.Lock()
        self._attempt: _Attempt | None = None
        self._launcher: LauncherProcess | None = None
        self._container_launcher: LauncherProcess | None = None

    def start(self) -> None:
        """End and remove what an earlier runner of this slot left, and start the launcher. Raises RunError."""
        if self._user is not None and processes.end_processes_of(self._user.uid, self._user.gid):
            raise RunError(f"processes of {self._user.name} are still there after SIGKILL")
        self._work_dir.prepare()
        try:
            self._main_launcher()
        except RunError:
            self._work_dir.release()
            raise

    def close(self) -> None:
        """End the launcher and what it runs. Results that were not discarded stay."""
        for launcher in (self._launcher, self._container_launcher):
            if launcher is not None:
                launcher.stop()
        self._launcher = self._container_launcher = None
        self._work_dir.release()

    @property
    def launcher_pid(self) -> int | None:
        """The process to look at when a slot seems stuck; None before start()."""
        return self._launcher.pid if self._launcher is not None else None

    @property
    def engine_launcher_pid(self) -> int | None:
        """The one that runs the container engine's program; None before the first container."""
        return self._container_launcher.pid if self._container_launcher is not None else None

    def __enter__(self) -> "Runner":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        request: RunRequest,
        *,
        on_started: Callable[[], None] | None = None,
        meanwhile: Meanwhile = lambda: None,
    ) -> RunResult:
        """Run one attempt to its end and say how it ended; afterwards nothing of it is left but the result's files.

        on_started: called once cancel() reaches this attempt. A caller who may be told to cancel before that
        remembers it, and calls cancel() from here. meanwhile: called while the attempt runs, unless in a container.
        Raises RunError when it could not be run for a reason that is not the task's own.
        """
        if not request.command:
            raise RunError(f"task {request.task_id} has no command")
        attempt = self._begin(request)
        files = ResultFiles(self._work_dir.results, attempt.serial, with_archive=bool(request.artifact_globs))
        result = None
        try:
            files.open()
            if on_started is not None:
                on_started()
            result = self._finish(request, attempt, files, self._run_or_clean_up(request, attempt, files, meanwhile))
        except OSError as error:
            raise RunError(f"cannot keep the output in {self._work_dir.results}: {error}") from error
        except LauncherLostError as error:
            raise RunError("the launcher died or stopped answering as it cleaned up") from error
        finally:
            self._end(attempt)
            files.close()
            if result is None:
                files.remove()
        return result

    def cancel(self) -> None:
        """End the attempt that runs at this moment, like its time limit would; without effect when none does."""
        with self._lock:
            if self._attempt is None or self._attempt.canceled_at is not None:
                return
            self._attempt.canceled_at = time.monotonic()
            if self._attempt.launcher is not None:
                self._attempt.launcher.cancel(self._attempt.serial)

    def ask_for_tails(self) -> TailsRequest | None:
        """Ask what the command that runs has written so far, without waiting; None when nobody can be asked.

        Any thread may. Close the request. One that is not answered within two seconds never will be. Raises OSError.
        """
        with self._lock:
            if self._attempt is None or self._attempt.launcher is None:
                return None
            request = TailsRequest()
            if self._attempt.launcher.ask_for_tails(self._attempt.serial, request):
                return request
        request.close()
        return None

    def _begin(self, request: RunRequest) -> _Attempt:
        serial = next(self._serials)
        attempt = _Attempt(
            serial=serial,
            marker=f"{self._marker}-{serial}",
            timeout=request.timeout,
            started=time.monotonic(),
        )
        with self._lock:
            self._attempt = attempt
        return attempt

    def _end(self, attempt: _Attempt) -> None:
        with self._lock:
            self._attempt = None
            interrupted = attempt.launcher
        if interrupted is not None:
            # An exception, such as Ctrl-C, came between work and answer: that launcher has no use any more.
            interrupted.stop()
            self._forget(interrupted)

    def _run_or_clean_up(
        self, request: RunRequest, attempt: _Attempt, files: ResultFiles, meanwhile: Meanwhile
    ) -> Done:
        try:
            if request.docker_image is not None:
                return self._run_in_container(request, attempt, files, request.docker_image)
            return self._run_here(request, attempt, files, meanwhile)
        except LauncherLostError:
            return self._clean_up_after_loss(request, attempt, files)

    def _run_here(self, request: RunRequest, attempt: _Attempt, files: ResultFiles, meanwhile: Meanwhile) -> Done:
        work = Work(
            serial=attempt.serial,
            files=_files(request),
            command=self._command(
                request,
                argv=list(request.command),
                cwd=f"{self._work_dir.attempt}/tree/{request.relative_cwd}".rstrip("/"),
                env=self._environment(request, attempt),
            ),
            archive=list(request.artifact_globs),
            archive_limit_bytes=self._artifact_limit_bytes,
            clean=not request.leak,
        )
        return self._exchange(attempt, self._main_launcher(), work, files.outputs + files.archive, meanwhile)

    def _run_in_container(self, request: RunRequest, attempt: _Attempt, files: ResultFiles, image: str) -> Done:
        """The task's own user writes and archives the tree; the engine's program is run as we are."""
        work = Work(serial=attempt.serial)
        cid_file = f"{self._work_dir.results}/{attempt.serial}.cid"
        command = self._container_command(request, attempt, image, cid_file)
        try:
            self._exchange(attempt, self._main_launcher(), replace(work, files=_files(request)))
            ran = self._exchange(attempt, self._engine_launcher(), replace(work, command=command), files.outputs)
            self._check_engine(ran, cid_file, files)
            archive = replace(
                work, archive=list(request.artifact_globs), archive_limit_bytes=self._artifact_limit_bytes
            )
            archived = self._exchange(attempt, self._main_launcher(), archive, files.archive)
            return replace(archived, ended=ran.ended, notes=(*ran.notes, *archived.notes))
        finally:
            if not request.leak and attempt.launcher is None:
                self._exchange(attempt, self._main_launcher(), replace(work, clean=True))
            Path(cid_file).unlink(missing_ok=True)

    def _container_command(self, request: RunRequest, attempt: _Attempt, image: str, cid_file: str) -> Command:
        if self._container is None:
            raise RunError(f"the task wants docker_image {image!r}, but this slave has no program for containers")
        name = _container_name(attempt)
        chosen = {**self._base_environment, **request.env}
        env = self._environment(request, attempt)
        argv = containers.run_argv(
            self._container,
            name=name,
            image=image,
            attempt_dir=str(self._work_dir.attempt),
            cid_file=cid_file,
            relative_cwd=request.relative_cwd,
            uid=self._user.uid if self._user else os.getuid(),
            gid=self._user.gid if self._user else os.getgid(),
            # Our default PATH says nothing about the image.
            env={key: value for key, value in env.items() if key != "PATH" or key in chosen},
            command=containers.command_inside(
                request.command, request.relative_cwd, {entry.path for entry in request.entries}
            ),
        )
        return replace(
            self._command(request, argv=argv, cwd="/", env=self._engine_environment(self._container)),
            settle_seconds=_CONTAINER_SETTLE_SECONDS,
            remove_container=containers.remove_argv(self._container, name),
        )

    def _engine_environment(self, container: ContainerProgram) -> dict[str, str]:
        return {"PATH": DEFAULT_PATH, "HOME": str(Path.home()), **container.environment}

    def _check_engine(self, ran: Done, cid_file: str, files: ResultFiles) -> None:
        if ran.ended and ran.ended.exit_status == containers.ENGINE_FAILED and not Path(cid_file).exists():
            said = files.stderr().tail(2000).decode(errors="replace").strip()
            raise RunError(f"the container could not be started: {said}")

    def _environment(self, request: RunRequest, attempt: _Attempt) -> dict[str, str]:
        environment = task_environment(
            base=self._base_environment,
            own=request.env,
            attempt_dir=str(self._work_dir.attempt),
            user=self._user_name,
            job_id=request.job_id,
            task_id=request.task_id,
            attempt=request.attempt,
        )
        return {**environment, RUN_MARKER: attempt.marker}

    def _command(self, request: RunRequest, *, argv: list[str], cwd: str, env: dict[str, str]) -> Command:
        return Command(
            argv=argv,
            cwd=cwd,
            env=env,
            timeout_seconds=request.timeout.total_seconds() if request.timeout else None,
            kill_grace_seconds=self._kill_grace.total_seconds(),
            output_limit_bytes=self._output_limit_bytes,
        )

    def _exchange(
        self,
        attempt: _Attempt,
        launcher: LauncherProcess,
        work: Work,
        fds: tuple[int, ...] = (),
        meanwhile: Meanwhile = lambda: None,
    ) -> Done:
        with self._lock:
            attempt.launcher = launcher
            launcher.give(work, fds)
            if attempt.canceled_at is not None:
                launcher.cancel(attempt.serial)  # it was canceled before this launcher had it
        done = launcher.answer(lambda: self._deadline(attempt), meanwhile)
        with self._lock:
            attempt.launcher = None
        if done.error is not None:
            raise RunError(done.error)
        return done

    def _deadline(self, attempt: _Attempt) -> float | None:
        """When a launcher that has not answered counts as stopped by its task: None without a limit or a cancel."""
        slack = (self._kill_grace + self._patience).total_seconds()
        if attempt.canceled_at is not None:
            return attempt.canceled_at + slack
        return attempt.started + attempt.timeout.total_seconds() + slack if attempt.timeout else None

    def _clean_up_after_loss(self, request: RunRequest, attempt: _Attempt, files: ResultFiles) -> Done:
        lost, attempt.launcher = attempt.launcher, None
        if lost is not None:
            self._forget(lost)
            lost.kill(f"{RUN_MARKER}={attempt.marker}")
        if self._container is not None and request.docker_image is not None:
            removing = containers.remove_argv(self._container, _container_name(attempt))
            subprocess.run(removing, env=self._engine_environment(self._container), check=False, capture_output=True)
        message = "The launcher of this task died or was stopped, most likely by the task itself; all of it was killed"
        files.say(message)
        if self._launcher is not None:  # it was the engine's that was lost; the tree is still there
            self._launcher.stop()
            self._launcher = None
        self._main_launcher()  # a new one begins by cleaning
        outcome = CANCELED if attempt.canceled_at is not None else FAILED
        ended = Ended(outcome=outcome, exit_status=None, seconds=time.monotonic() - attempt.started)
        return Done(ended=ended, notes=(message,))

    def _finish(self, request: RunRequest, attempt: _Attempt, files: ResultFiles, done: Done) -> RunResult:
        if done.ended is None:
            raise RunError("the launcher's answer says nothing about the command")
        artifacts = files.artifacts(done.archived, done.notes)
        return RunResult(
            outcome=done.ended.outcome,
            exit_status=done.ended.exit_status,
            duration=timedelta(seconds=done.ended.seconds),
            stdout=files.stdout(),
            stderr=files.stderr(),
            artifacts=artifacts,
            notes=done.notes,
            written_bytes=done.ended.written_bytes,
            leaked_dir=self._leak(attempt) if request.leak else None,
        )

    def _leak(self, attempt: _Attempt) -> Path:
        leaked = self._work_dir.set_aside()
        self._exchange(attempt, self._main_launcher(), Work(serial=attempt.serial, clean=True))
        return leaked

    def _main_launcher(self) -> LauncherProcess:
        if self._launcher is None:
            self._launcher = LauncherProcess(self._work_dir.attempt, self._user, self._work_dir.lock_fd)
        return self._launcher

    def _engine_launcher(self) -> LauncherProcess:
        if self._container_launcher is None:
            self._container_launcher = LauncherProcess(self._work_dir.engine, None, self._work_dir.lock_fd)
        return self._container_launcher

    def _forget(self, launcher: LauncherProcess) -> None:
        if launcher is self._launcher:
            self._launcher = None
        else:
            self._container_launcher = None


def _files(request: RunRequest) -> Files:
    return Files(
        entries=list(request.entries),
        isolated=request.isolated.decode("utf-8", "surrogateescape"),
        relative_cwd=request.relative_cwd,
    )


def _container_name(attempt: _Attempt) -> str:
    return f"dist-test-{attempt.marker}"


def _name_of(user: TaskUser | None) -> str:
    if user is not None:
        return user.name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())  # a container's user need not have a name
