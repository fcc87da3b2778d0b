"""Attempts run for real: limits, output, cancels, and that nothing of a task outlives it.

As root each test runs twice: as a task user of its own, and as one user with the Runner (a laptop).
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import FrameType

import pytest

from dist_test.errors import RunError
from dist_test.running.processes import processes_marked, processes_of
from dist_test.running.records import RunRequest, RunResult
from dist_test.running.runner import Runner
from dist_test.running.tree import TreeEntry
from dist_test.running.users import TaskUser, claim_user
from tests.readable import copy_packages

MEBIBYTE = 2**20
GRACE = timedelta(seconds=0.4)
JOBS = (f"test-{os.getpid()}-{number}" for number in itertools.count())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: runs tasks as another user")


class Slot:
    """A started Runner, and what tests need to know about it."""

    def __init__(self, work_dir: Path, user: TaskUser | None) -> None:
        self.work_dir = work_dir
        self.user = user
        self.job = next(JOBS)
        self.runner = self.new_runner()
        self.runner.start()

    def new_runner(
        self, *, output_limit_bytes: int = MEBIBYTE, artifact_limit_bytes: int = MEBIBYTE, patience_seconds: float = 60
    ) -> Runner:
        return Runner(
            work_dir=self.work_dir / "slot",
            user=self.user,
            output_limit_bytes=output_limit_bytes,
            artifact_limit_bytes=artifact_limit_bytes,
            kill_grace=GRACE,
            patience=timedelta(seconds=patience_seconds),
        )

    def restart(
        self, *, output_limit_bytes: int = MEBIBYTE, artifact_limit_bytes: int = MEBIBYTE, patience_seconds: float = 60
    ) -> None:
        self.runner.close()
        self.runner = self.new_runner(
            output_limit_bytes=output_limit_bytes,
            artifact_limit_bytes=artifact_limit_bytes,
            patience_seconds=patience_seconds,
        )
        self.runner.start()

    def request(
        self,
        script: str,
        *,
        timeout_seconds: float | None = None,
        artifact_globs: tuple[str, ...] = (),
        relative_cwd: str = "",
        leak: bool = False,
        env: dict[str, str] | None = None,
    ) -> RunRequest:
        blob = self.work_dir / f"blob-{next(JOBS)}"
        blob.write_text("#!/bin/sh\n" + script)
        blob.chmod(0o444)
        return RunRequest(
            entries=[TreeEntry("bin/run", str(blob), 0o555)],
            isolated=b'{"version": "1.4"}',
            command=[os.path.relpath("bin/run", relative_cwd or "."), "argument"],
            relative_cwd=relative_cwd,
            env=env or {},
            timeout=None if timeout_seconds is None else timedelta(seconds=timeout_seconds),
            artifact_globs=artifact_globs,
            job_id=self.job,
            task_id="hash.0",
            attempt=1,
            leak=leak,
        )

    def run(self, script: str, *, on_started: Callable[[], None] | None = None, **options: object) -> RunResult:
        return self.runner.run(self.request(script, **options), on_started=on_started)  # type: ignore[arg-type]

    def left_over(self) -> list[int]:
        """The task's processes that are still there."""
        if self.user is not None:
            return [pid for pid in processes_of(self.user.uid) if b"launcher.main" not in command_line(pid)]
        return processes_marked(f"DIST_TEST_JOB_ID={self.job}")

    def files_left(self) -> list[str]:
        return sorted(path.name for path in (self.work_dir / "slot/t").rglob("*"))


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def text(result: RunResult) -> tuple[str, str]:
    return result.stdout.path.read_text(), result.stderr.path.read_text()


def wait_until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time limit"
        time.sleep(0.01)


@pytest.fixture
def work_dir() -> Iterator[Path]:
    """Where a task user can get to, unlike pytest's own temporary directories."""
    path = Path(tempfile.mkdtemp(prefix="dist-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["own_user", "same_user"])
def slot(request: pytest.FixtureRequest, work_dir: Path) -> Iterator[Slot]:
    if request.param == "same_user":
        yield from _slot(work_dir, None)
    elif os.geteuid() != 0:
        pytest.skip("needs root: runs tasks as another user")
    else:
        with claim_user(create=True) as user:
            yield from _slot(work_dir, user)


@pytest.fixture
def own_slot(work_dir: Path) -> Iterator[Slot]:
    with claim_user(create=True) as user:
        yield from _slot(work_dir, user)


def _slot(work_dir: Path, user: TaskUser | None) -> Iterator[Slot]:
    slot = Slot(work_dir, user)
    yield slot
    slot.runner.close()
    assert slot.left_over() == []
    if slot.user is not None:
        assert processes_of(slot.user.uid) == []


# How a command ends.


@pytest.mark.parametrize(
    ("script", "outcome", "exit_status"),
    [
        ("exit 0", "succeeded", 0),
        ("exit 3", "failed", 3),
        ("kill -SEGV $$", "failed", -11),
        ("kill -KILL $$", "failed", -9),
        ("kill -TERM 0", "failed", -15),
    ],
)
def test_the_exit_status_decides(slot: Slot, script: str, outcome: str, exit_status: int) -> None:
    result = slot.run(script)
    assert (result.outcome, result.exit_status, result.artifacts, result.notes) == (outcome, exit_status, None, ())


def test_stdout_and_stderr_are_kept_apart(slot: Slot) -> None:
    result = slot.run("echo out; echo err >&2")
    assert text(result) == ("out\n", "err\n")
    assert (result.stdout.size_bytes, result.stderr.tail(3)) == (4, b"rr\n")


def test_opening_dev_stderr_anew_does_not_empty_it(slot: Slot) -> None:
    assert text(slot.run("echo 1 >&2; echo 2 > /dev/stderr; echo 3 >&2; echo o > /dev/stdout")) == ("o\n", "1\n2\n3\n")


def test_the_command_finds_its_tree_its_cwd_and_a_clean_environment(slot: Slot) -> None:
    script = 'pwd; echo "$0 $1"; ls ../..; cat ../../task.isolated; echo; env | sort; echo x > ../../bin/run; cat'
    result = slot.run(script, relative_cwd="build/isolate", env={"X": "1"})
    root = slot.work_dir / "slot/t"
    out, err = text(result)
    lines = out.splitlines()
    assert lines[:5] == [f"{root}/tree/build/isolate", f"{root}/tree/bin/run argument", "bin", "build", "task.isolated"]
    assert lines[5] == '{"version": "1.4"}'
    environment = dict(line.split("=", 1) for line in lines[6:])
    assert (environment["HOME"], environment["TMPDIR"], environment["X"]) == (f"{root}/home", f"{root}/tmp", "1")
    assert (environment["DIST_TEST_ATTEMPT"], environment["DIST_TEST_TASK_ID"]) == ("1", "hash.0")
    assert not {"SHLVL", "PYTHONPATH", "VIRTUAL_ENV"} & environment.keys()
    assert (err, result.outcome) == ("", "succeeded")


def test_the_command_inherits_no_descriptors(slot: Slot) -> None:
    out, _ = text(slot.run("ls /proc/self/fd"))
    assert out.split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


@pytest.mark.parametrize(
    ("command", "exit_status", "message"),
    [
        (["missing-program"], 127, "cannot run missing-program: No such file or directory"),
        (["bin/missing"], 127, "cannot run bin/missing: No such file or directory"),
        (["bin/plain"], 126, "cannot run bin/plain: Permission denied"),
        (["bin/interpreter"], 127, "its interpreter"),
        (["bin"], 126, "cannot run bin: Permission denied"),
        (["bin/text"], 126, "neither a program nor a script"),
    ],
)
def test_a_command_that_cannot_be_executed_is_the_tasks_failure(
    slot: Slot, command: list[str], exit_status: int, message: str
) -> None:
    (slot.work_dir / "interpreter").write_text("#!/no/such/interpreter\n")
    (slot.work_dir / "text").write_text("plain text")
    entries = [
        TreeEntry("bin/plain", str(slot.work_dir / "text"), 0o644),
        TreeEntry("bin/interpreter", str(slot.work_dir / "interpreter"), 0o755),
        TreeEntry("bin/text", str(slot.work_dir / "text"), 0o755),
    ]
    result = slot.runner.run(RunRequest(entries=entries, isolated=b"{}", command=command))
    assert (result.outcome, result.exit_status) == ("failed", exit_status)
    assert message in text(result)[1]


@pytest.mark.parametrize(("command", "env"), [(["/bin/true", "a\0b"], {}), (["/bin/true"], {"A=B": "c"})])
def test_a_command_that_no_system_could_run_is_the_tasks_failure(
    slot: Slot, command: list[str], env: dict[str, str]
) -> None:
    result = slot.runner.run(RunRequest(entries=[], isolated=b"{}", command=command, env=env))
    assert (result.outcome, result.exit_status) == ("failed", 126)
    assert "cannot run /bin/true" in text(result)[1]


def test_a_task_without_a_command_is_refused(slot: Slot) -> None:
    with pytest.raises(RunError, match="no command"):
        slot.runner.run(RunRequest(entries=[], isolated=b"{}", command=[]))


def test_a_bare_name_is_searched_in_the_path(slot: Slot) -> None:
    result = slot.runner.run(RunRequest(entries=[], isolated=b"{}", command=["echo", "hello"]))
    assert text(result)[0] == "hello\n"


# Limits.


def test_at_the_limit_the_task_is_told_once_and_ended(slot: Slot) -> None:
    result = slot.run("echo before >&2; sleep 100", timeout_seconds=0.2)
    assert (result.outcome, result.exit_status) == ("timed_out", -15)
    assert text(result)[1] == "before\n------\nKilling task after 0.2 seconds\n"
    assert timedelta(seconds=0.2) <= result.duration < timedelta(seconds=1)


def test_exiting_with_0_on_the_signal_is_timed_out_all_the_same(slot: Slot) -> None:
    result = slot.run("trap 'echo bye; exit 0' TERM; sleep 100 & wait", timeout_seconds=0.2)
    assert (result.outcome, result.exit_status) == ("timed_out", 0)
    assert text(result)[0] == "bye\n"


def test_a_task_that_ignores_the_signal_is_killed_after_the_grace(slot: Slot) -> None:
    result = slot.run("trap '' TERM; while :; do sleep 0.1; done", timeout_seconds=0.2)
    assert (result.outcome, result.exit_status) == ("timed_out", -9)
    assert text(result)[1].count("Killing task") == 1
    assert timedelta(seconds=0.6) <= result.duration < timedelta(seconds=3)


def test_a_stopped_task_is_killed_too(slot: Slot) -> None:
    assert slot.run("kill -STOP $$", timeout_seconds=0.2).outcome == "timed_out"


# Output.


def test_output_over_the_limit_keeps_head_and_tail(slot: Slot) -> None:
    result = slot.run("echo first; head -c 300000000 /dev/zero; echo last")
    assert result.outcome == "succeeded"
    assert MEBIBYTE < result.stdout.size_bytes < MEBIBYTE + 200
    content = result.stdout.path.read_bytes()
    assert content.startswith(b"first\n")
    assert content.endswith(b"last\n")
    assert b"dist_test left out %d bytes here" % (300_000_011 - MEBIBYTE) in content


def test_the_tail_is_never_lost_however_the_task_ends(slot: Slot) -> None:
    for _ in range(20):
        result = slot.run("(sleep 0.01; head -c 60000 /dev/zero; echo tail) & wait; kill -KILL $$")
        assert result.stdout.size_bytes == 60_005


def test_a_task_that_closes_its_output_costs_no_processor_time(slot: Slot) -> None:
    launcher = slot.runner.launcher_pid
    assert launcher is not None
    before = processor_seconds(launcher)
    assert slot.run("exec >&- 2>&-; sleep 1").outcome == "succeeded"
    assert processor_seconds(launcher) - before < 0.1


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Nothing outlives its task.

SURVIVORS = {
    "background": "sleep 1000 & exit 0",
    "daemon that ignores SIGTERM": "(trap '' TERM HUP; setsid sh -c 'sleep 1000; sleep 1000' &) ; exit 0",
    "many": "for i in $(seq 100); do setsid sleep 1000 & done; exit 0",
    "a family of orphans": "f() { [ $1 = 0 ] || (f $(($1 - 1)) & f $(($1 - 1)) & sleep 99); }; f 5 & sleep 0.3; exit 0",
    "one that forks all the time": "(f() { (sleep 0.002; f) & }; f) & sleep 0.2; exit 0",
    "holding the output open": "(sleep 1000; echo late) & echo soon; exit 0",
}


@pytest.mark.parametrize("script", SURVIVORS.values(), ids=SURVIVORS.keys())
def test_no_process_outlives_its_task(slot: Slot, script: str) -> None:
    result = slot.run(script)
    assert slot.left_over() == []
    assert result.outcome == "succeeded"
    assert "late" not in text(result)[0]


@pytest.mark.parametrize("script", SURVIVORS.values(), ids=SURVIVORS.keys())
def test_no_process_outlives_a_task_at_its_limit(slot: Slot, script: str) -> None:
    result = slot.run(f"trap '' TERM; {script.replace('exit 0', 'sleep 1000; sleep 1000')}", timeout_seconds=0.5)
    assert slot.left_over() == []
    assert result.outcome == "timed_out"


@needs_root
def test_a_fork_bomb_is_ended(own_slot: Slot) -> None:
    result = own_slot.run("ulimit -u 150; f() { f | f & f; }; f 2>/dev/null; sleep 1000", timeout_seconds=0.5)
    assert own_slot.left_over() == []
    assert result.outcome == "timed_out"
    assert own_slot.run("exit 0").outcome == "succeeded"


def test_orphans_that_end_do_not_pile_up_as_zombies(slot: Slot) -> None:
    count = f"grep -l 'PPid:.{slot.runner.launcher_pid}$' /proc/*/status 2>/dev/null | wc -l"
    out, _ = text(slot.run(f"for i in $(seq 50); do (true &) ; done; sleep 0.3; {count}"))
    assert out == "1\n"


def test_no_file_outlives_its_task(slot: Slot) -> None:
    script = (
        "mkdir -p sub/sub; chmod 500 sub/sub sub; touch $HOME/x $TMPDIR/y ../z; mkdir -p $HOME/d; "
        "chmod 0 $HOME/d $TMPDIR; ln -s / ../link; mkfifo pipe; chmod 000 .."
    )
    assert slot.run(script).outcome == "succeeded"
    assert slot.files_left() == ["home", "tmp", "tree"]
    out, _ = text(slot.run("ls -A .. . $HOME $TMPDIR; echo hello > $TMPDIR/x"))
    assert out.split() == [".:", "bin", "task.isolated", "..:", "home", "tmp", "tree", *out.split()[-2:]]


def test_replacing_the_private_directories_by_links_reaches_nothing(slot: Slot) -> None:
    precious = slot.work_dir / "precious"
    precious.mkdir(mode=0o777)
    (precious / "file").touch()
    slot.run(f"cd ..; rm -rf tree home tmp; ln -s {precious} home; ln -s {precious} tree; ln -s {precious} tmp")
    assert (precious / "file").exists()
    assert slot.files_left() == ["home", "tmp", "tree"]
    assert slot.run("test -d $HOME && touch $HOME/a $TMPDIR/b").outcome == "succeeded"
    assert sorted(path.name for path in precious.iterdir()) == ["file"]


@needs_root
@pytest.mark.parametrize("directory", ["/tmp", "/var/tmp", "/dev/shm"])
def test_files_in_public_directories_do_not_outlive_their_task(own_slot: Slot, directory: str) -> None:
    name = f"{directory}/left-{own_slot.job}"
    assert own_slot.run(f"mkdir -p {name}.d/sub; chmod 0 {name}.d; touch {name}").outcome == "succeeded"
    assert list(Path(directory).glob(f"left-{own_slot.job}*")) == []


@needs_root
@pytest.mark.parametrize("kind", ["--shmem 100", "--queue", "--semaphore 1"])
def test_ipc_objects_do_not_outlive_their_task(own_slot: Slot, kind: str) -> None:
    assert own_slot.user is not None
    assert own_slot.run(f"ipcmk {kind}").outcome == "succeeded"
    listing = subprocess.run(["ipcs"], capture_output=True, text=True, check=True).stdout
    assert own_slot.user.name not in listing


@needs_root
def test_a_new_runner_ends_and_removes_what_a_dead_one_left(own_slot: Slot) -> None:
    assert own_slot.user is not None
    user = own_slot.user
    tree = own_slot.work_dir / "slot/t/tree"
    own_slot.runner.close()
    tree.joinpath("old").touch()
    own_slot.work_dir.joinpath("slot/results/9.stdout").touch()
    left = subprocess.Popen(["/bin/sleep", "1000"], user=user.uid, group=user.gid, extra_groups=[])
    own_slot.restart()
    assert left.wait() == -signal.SIGKILL
    assert own_slot.files_left() == ["home", "tmp", "tree"]
    assert list((own_slot.work_dir / "slot/results").iterdir()) == []


def test_an_interrupted_run_leaves_nothing_and_the_next_one_runs(slot: Slot) -> None:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            slot.run("trap '' TERM; while :; do sleep 0.1; done")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert slot.left_over() == []
    assert slot.run("exit 0").outcome == "succeeded"


def test_a_task_ends_with_its_runner(slot: Slot) -> None:
    program = f"""
from datetime import timedelta
from pathlib import Path
from dist_test.running.runner import Runner
from dist_test.running.records import RunRequest
from dist_test.running.users import TaskUser
runner = Runner(work_dir=Path({str(slot.work_dir / "slot")!r}), user={slot.user!r})
runner.start()
runner.run(RunRequest(entries=[], isolated=b"", command=["/bin/sleep", "1000"], job_id={slot.job!r}),
    on_started=lambda: print("started", flush=True))
"""
    slot.runner.close()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        wait_until(lambda: slot.left_over() != [])
        process.kill()
    # Its launcher cleans up by itself, and a new runner of the same slot waits for it.
    slot.restart()
    assert slot.left_over() == []


# A task against its launcher.


def test_a_task_that_kills_its_launcher_fails_and_the_next_one_runs(slot: Slot) -> None:
    result = slot.run("setsid sleep 1000 & echo output; sleep 0.1; kill -KILL $PPID; sleep 1000")
    assert slot.left_over() == []
    assert (result.outcome, result.exit_status) == ("failed", None)
    assert "The launcher of this task died" in result.notes[0]
    assert "The launcher of this task died" in text(result)[1]
    assert text(result)[0] == "output\n"
    assert text(slot.run("echo next; ls ..")) == ("next\nhome\ntmp\ntree\n", "")


def test_a_launcher_that_its_task_stopped_is_replaced_after_the_patience(slot: Slot) -> None:
    slot.restart(patience_seconds=0.1)
    result = slot.run("kill -STOP $PPID; sleep 1000", timeout_seconds=0.1)
    assert (result.outcome, result.exit_status) == ("failed", None)
    assert slot.left_over() == []
    assert slot.run("exit 0").outcome == "succeeded"


@needs_root
def test_a_task_can_read_neither_its_launcher_nor_the_results(own_slot: Slot) -> None:
    script = "cat /proc/$PPID/environ; ls /proc/$PPID/fd; ls ../../results; cat ../../results/1.stdout"
    out, err = text(own_slot.run(script))
    assert out == ""
    assert err.count("Permission denied") == 4


@needs_root
def test_a_task_has_no_rights_of_the_slave(own_slot: Slot) -> None:
    assert own_slot.user is not None
    out, _ = text(own_slot.run("id -u; id -g; id -G; grep Groups /proc/self/status; grep CapEff /proc/self/status"))
    uid, gid, *rest = out.split()
    assert (int(uid), int(gid), int(rest[0])) == (own_slot.user.uid, own_slot.user.gid, own_slot.user.gid)
    assert rest[-1] == "0000000000000000"
    assert rest[1:-1] in (["Groups:", "CapEff:"], ["Groups:", rest[0], "CapEff:"])


# Cancels.


def test_a_cancel_before_a_run_does_not_affect_it(slot: Slot) -> None:
    slot.runner.cancel()
    assert slot.run("exit 0").outcome == "succeeded"


def test_a_cancel_at_the_very_start_ends_the_attempt(slot: Slot) -> None:
    result = slot.run("sleep 1000", on_started=slot.runner.cancel)
    assert result.outcome == "canceled"
    assert text(result) == ("", "")


@pytest.mark.parametrize("script", ["sleep 1000", "trap '' TERM; while :; do setsid sleep 0.1; done"])
def test_a_cancel_in_mid_run_ends_the_attempt_and_no_other(slot: Slot, script: str) -> None:
    threading.Timer(0.3, slot.runner.cancel).start()
    started = time.monotonic()
    assert slot.run(script).outcome == "canceled"
    assert time.monotonic() - started < 5
    assert slot.left_over() == []
    assert slot.run("exit 0").outcome == "succeeded"


def test_cancels_at_any_moment_hit_only_the_attempt_that_runs(slot: Slot) -> None:
    stop = threading.Event()

    def cancel_often() -> None:
        while not stop.wait(0.003):
            slot.runner.cancel()

    canceler = threading.Thread(target=cancel_often)
    canceler.start()
    outcomes = {slot.run("sleep 0.01; exit 0").outcome for _ in range(60)}
    stop.set()
    canceler.join()
    assert outcomes <= {"canceled", "succeeded"}
    assert slot.run("exit 0").outcome == "succeeded"


# Artifacts and results.


@pytest.mark.parametrize("exit_status", [0, 1])
def test_artifacts_are_archived_whether_the_task_passes_or_not(slot: Slot, exit_status: int) -> None:
    script = f"mkdir -p logs/deep; for i in $(seq 200); do echo $i > logs/deep/$i.xml; done; exit {exit_status}"
    result = slot.run(script, artifact_globs=("logs/**/*.xml",))
    assert result.artifacts is not None
    assert result.artifacts.size_bytes == result.artifacts.path.stat().st_size
    with zipfile.ZipFile(result.artifacts.path) as packed:
        assert len(packed.namelist()) == 200
        assert packed.read("logs/deep/7.xml") == b"7\n"


def test_artifacts_do_not_lead_outside_the_tree(slot: Slot) -> None:
    secret = slot.work_dir / "secret"
    secret.write_text("secret")
    script = f"ln -s {secret} a.log; ln -s {slot.work_dir} dir; ln -s .. up; echo fine > b.log; mkfifo c.log"
    result = slot.run(script, artifact_globs=("*.log", "dir/*", "up/**", "../**"))
    assert result.artifacts is not None
    with zipfile.ZipFile(result.artifacts.path) as packed:
        assert packed.namelist() == ["b.log"]


def test_artifacts_over_the_operators_limit_are_left_out_and_said(slot: Slot) -> None:
    slot.restart(artifact_limit_bytes=5_000)
    result = slot.run("echo small > a.log; head -c 9000 /dev/zero > b.log", artifact_globs=("*.log",))
    assert result.artifacts is not None
    with zipfile.ZipFile(result.artifacts.path) as packed:
        assert packed.namelist() == ["a.log", "_DROPPED_FILES_.txt"]
    assert any("more than 5000 bytes in all" in note for note in result.artifacts.notes)


def test_without_a_match_there_is_no_archive(slot: Slot) -> None:
    result = slot.run("exit 0", artifact_globs=("*.xml",))
    assert result.artifacts is None
    assert len(list((slot.work_dir / "slot/results").iterdir())) == 2


def test_results_survive_the_next_run_and_go_when_discarded(slot: Slot) -> None:
    results = [slot.run(f"echo {name} | tee {name}", artifact_globs=("?",)) for name in "ab"]
    assert [text(result)[0] for result in results] == ["a\n", "b\n"]
    for result in results:
        result.discard()
        result.discard()  # no harm
    assert list((slot.work_dir / "slot/results").iterdir()) == []


def test_a_leaked_directory_stays_for_a_human_to_look_at(slot: Slot) -> None:
    leaked = slot.run("echo x > found", leak=True).leaked_dir
    assert leaked is not None
    assert slot.run("exit 0", leak=False).leaked_dir is None
    slot.restart()
    assert (leaked / "found").read_text() == "x\n"


def test_a_tree_that_cannot_be_written_is_not_the_tasks_failure(slot: Slot) -> None:
    entries = [TreeEntry("a", str(slot.work_dir / "missing-blob"))]
    with pytest.raises(RunError, match="missing-blob"):
        slot.runner.run(RunRequest(entries=entries, isolated=b"{}", command=["true"]))
    assert list((slot.work_dir / "slot/results").iterdir()) == []
    assert slot.run("exit 0").outcome == "succeeded"


@needs_root
def test_output_that_does_not_fit_on_the_disk_costs_output_and_not_the_verdict(own_slot: Slot) -> None:
    own_slot.runner.close()
    results = own_slot.work_dir / "slot/results"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", results], check=True)
    try:
        own_slot.restart()
        result = own_slot.run("(setsid sleep 1000 &) ; head -c 400000 /dev/zero; exit 3")
        assert (result.outcome, result.exit_status) == ("failed", 3)
        assert "bytes of output were lost, since the disk was full" in result.notes[0]
        assert own_slot.left_over() == []
        result.discard()
        assert own_slot.run("exit 0").outcome == "succeeded"
    finally:
        subprocess.run(["umount", results], check=True)


@needs_root
def test_a_directory_that_the_user_cannot_reach_is_named(work_dir: Path) -> None:
    work_dir.chmod(0o700)
    with claim_user(create=True) as user, pytest.raises(RunError, match=str(work_dir)):
        Runner(work_dir=work_dir / "slot", user=user).start()


@needs_root
def test_everything_works_without_root() -> None:
    nobody = 65534
    path = Path(tempfile.mkdtemp(prefix="dist-test-"))
    os.chown(path, nobody, nobody)
    packages = Path(tempfile.mkdtemp(prefix="dist-test-packages-"))
    copy_packages(packages)
    program = f"""
from datetime import timedelta
from pathlib import Path
from dist_test.running.runner import Runner
from dist_test.running.records import RunRequest
with Runner(work_dir=Path({str(path)!r}, "slot"), user=None, kill_grace=timedelta(seconds=0.3)) as runner:
    request = RunRequest(entries=[], isolated=b"", command=["sh", "-c", "setsid sleep 1000 & id -u; sleep 1000"],
        timeout=timedelta(seconds=0.5), job_id="without-root")
    result = runner.run(request)
    print(result.outcome, result.stdout.path.read_text())
"""
    done = subprocess.run(
        ["/usr/bin/python3", "-W", "error", "-c", program],
        env={"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"},
        user=nobody, group=nobody, extra_groups=[], capture_output=True, text=True, check=False,
    )  # fmt: skip
    shutil.rmtree(path)
    shutil.rmtree(packages)
    assert (done.stderr, done.stdout.split()) == ("", ["timed_out", str(nobody)])
    assert processes_marked("DIST_TEST_JOB_ID=without-root") == []
