"""What a cluster left on the machine after it was stopped: there must be nothing."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from dist_test.running.litter import PUBLIC_DIRECTORIES

from ..farm import Farm
from .processes import living


def leftovers(farm: Farm, marks: Path, temporary: Path) -> list[str]:
    """Processes and files of a stopped farm. `temporary`: where its programs put temporary files."""
    users = {line.split()[3] for line in marks.read_text().splitlines()}
    ids = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_name in users} - {os.geteuid()}
    return [
        *_processes(farm.directory, ids),
        *(f"the file {path}" for path in _public_files(ids)),
        *(f"the temporary file {path}" for path in temporary.iterdir()),
        *(f"the file {path}" for slave in farm.slaves for path in _task_files(slave.state_dir / "work")),
    ]


def _processes(directory: Path, ids: set[int]) -> Iterator[str]:
    for process in living():
        path = Path(f"/proc/{process}")
        try:
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            is_ours = str(directory) in command or str(directory).encode() in (path / "environ").read_bytes()
            if process != os.getpid() and (is_ours or path.stat().st_uid in ids):
                yield f"process {process}: {command}"
        except OSError:
            continue  # it ended as we looked


def _public_files(ids: set[int]) -> Iterator[Path]:
    for directory in map(Path, PUBLIC_DIRECTORIES):
        if directory.exists():
            yield from (path for path in directory.iterdir() if _owner(path) in ids)


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except FileNotFoundError:
        return None  # another's, just removed


def _task_files(work: Path) -> Iterator[Path]:
    """What tasks left in a slave's work directory. Emptied directories of each slot stay."""
    for slot in work.glob("slot*"):
        yield from slot.glob("leaked-*")
        yield from slot.glob("results/*")
        yield from slot.glob("t/*/*")
