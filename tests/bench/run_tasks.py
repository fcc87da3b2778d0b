"""How many attempts per second the `running` package alone makes: no queue, no database, no upload.

Usage: python tests/bench/run_tasks.py [--slots 2] [--tasks 1000]. As root it uses (and makes) the task users.
"""

import argparse
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from dist_test.running.records import RunRequest
from dist_test.running.runner import Runner
from dist_test.running.tree import TreeEntry
from dist_test.running.users import claim_user


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=1000, help="per slot")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dist-test-bench-") as name:
        work_dir = Path(name)
        work_dir.chmod(0o711)
        measure(work_dir, slots=arguments.slots, tasks=arguments.tasks)
    return 0


def measure(work_dir: Path, *, slots: int, tasks: int) -> None:
    request = RunRequest(entries=_two_files(work_dir), isolated=b"{}", command=["/bin/true"])
    with ExitStack() as stack:
        runners = [stack.enter_context(_runner(work_dir / str(slot), stack)) for slot in range(slots)]
        _run_all(runners, request, 20)
        own_before = time.process_time()
        started = time.monotonic()
        _run_all(runners, request, tasks)
        seconds = time.monotonic() - started
        own_seconds = time.process_time() - own_before
    total = slots * tasks
    user = "own users" if os.geteuid() == 0 else "one user"
    print(f"{total} x {shutil.which('true')}, {slots} slots, {user}, a tree of 2 files: {total / seconds:.0f} tasks/s")
    print(f"CPU time in the Runner's process: {own_seconds / total * 1000:.2f} ms per task")
    print(f"peak memory of the Runner's process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def _two_files(work_dir: Path) -> list[TreeEntry]:
    (work_dir / "blob").write_bytes(b"x" * 2000)
    (work_dir / "blob").chmod(0o444)
    return [TreeEntry(path=f"d/{name}", source=str(work_dir / "blob"), mode=0o755) for name in ("a", "b")]


def _runner(work_dir: Path, stack: ExitStack) -> Runner:
    user = stack.enter_context(claim_user(create=True)) if os.geteuid() == 0 else None
    return Runner(work_dir=work_dir, user=user)


def _run_all(runners: list[Runner], request: RunRequest, tasks: int) -> None:
    threads = [threading.Thread(target=_run, args=(runner, request, tasks)) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _run(runner: Runner, request: RunRequest, tasks: int) -> None:
    for _ in range(tasks):
        result = runner.run(request)
        if result.outcome != "succeeded":
            raise SystemExit(f"a task ended as {result.outcome}: {result.stderr.tail(500)!r}")
        result.discard()


if __name__ == "__main__":
    sys.exit(main())
