"""The private, writable copy of a task's files."""

# Plain strings here: a Path costs more than the system call that it is made for.
# ruff: noqa: PTH101, PTH102, PTH106, PTH108, PTH120, PTH211

import errno
import os
import stat
import subprocess
from collections.abc import Iterable
from typing import NamedTuple

ISOLATED_NAME = "task.isolated"
_DEFAULT_MODE = 0o644
_OWNER_RW = 0o600
_PRIVATE_MODE = 0o700
_BUFFER_BYTES = 128 * 2**10
# Kernels and file systems between which copy_file_range does not work answer with one of these.
_CANNOT_COPY_IN_KERNEL = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}


class TreeEntry(NamedTuple):
    """One file or link of a tree: `path` is relative to its root, `source` a file to copy, `link` a link's target.

    A tuple, since a thousand of them cross to the launcher as JSON arrays for one task. mode None means 0644.
    """

    path: str
    source: str | None = None
    mode: int | None = None
    link: str | None = None


def write_tree(
    entries: Iterable[TreeEntry], destination: str | os.PathLike[str], isolated: bytes | None = None
) -> None:
    """Copy the entries below `destination`, which is made if need be; `isolated` becomes its `task.isolated`.

    Files are never shared with the source: a task may write to its tree (Kudu's rewrites its binaries in place). The
    owner may write whatever the mode says. Paths are trusted to be relative and without `..`. Raises OSError.
    """
    root = os.fspath(destination)
    made: set[str] = set()
    _make_directory(root, made)
    links: list[TreeEntry] = []
    copy = _Copier()
    for entry in entries:
        if entry.link is not None:
            links.append(entry)
            continue
        path = f"{root}/{entry.path}"
        _make_directory(os.path.dirname(path), made)
        copy(entry.source, path, entry.mode)
    # Links come last, so that no file is ever written through one.
    for entry in links:
        path = f"{root}/{entry.path}"
        _make_directory(os.path.dirname(path), made)
        os.symlink(str(entry.link), path)
    if isolated is not None:
        _write_document(f"{root}/{ISOLATED_NAME}", isolated)


def remove_tree(path: str) -> None:
    """Remove a file, a link or a directory, whatever modes and depth a task left. Raises OSError when it cannot."""
    try:
        _remove(path)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        # Directories without write permission, or nested deeper than Python or PATH_MAX go: these tools can do both.
        subprocess.run(["/bin/chmod", "-R", "u+rwX", "--", path], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["/bin/rm", "-rf", "--", path], check=False, stderr=subprocess.DEVNULL)
        if os.path.lexists(path):
            raise


def empty_directory(path: str) -> None:
    """Make `path` an empty directory that only its owner can use, whatever is there now. Raises OSError."""
    make_private(path)
    with os.scandir(path) as listing:
        entries = list(listing)
    for entry in entries:
        remove_tree(entry.path)


def make_private(path: str) -> None:
    """Make `path` a directory that only its owner can use; what a directory holds stays. Raises OSError."""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            if stat.S_IMODE(mode) != _PRIVATE_MODE:
                os.chmod(path, _PRIVATE_MODE)
            return
        os.unlink(path)
    except FileNotFoundError:
        pass
    os.mkdir(path, _PRIVATE_MODE)


def _remove(path: str) -> None:
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    _remove_directory(path)


def _remove_directory(path: str) -> None:
    with os.scandir(path) as listing:
        entries = list(listing)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            _remove_directory(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(path)


def _make_directory(path: str, made: set[str]) -> None:
    # A stack of our own: a path may have more parts than Python's recursion limit allows.
    todo = [] if path in made else [path]
    while todo:
        parent = os.path.dirname(todo[-1])
        try:
            os.mkdir(todo[-1], 0o755)
        except FileExistsError:
            pass
        except FileNotFoundError:
            if not parent or parent in made:
                raise
            todo.append(parent)
            continue
        made.add(todo.pop())


def _write_document(path: str, content: bytes) -> None:
    # The tree may hold a file of that name already; ours is the one that counts.
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        _write_all(target, memoryview(content))
    finally:
        os.close(target)


class _Copier:
    """Copies files one after the other through one buffer."""

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)

    def __call__(self, source: str | None, path: str, mode: int | None) -> None:
        permissions = (_DEFAULT_MODE if mode is None else mode & 0o777) | _OWNER_RW
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, permissions)
        try:
            if source is not None:
                self._copy_content(source, target)
            os.fchmod(target, permissions)  # whatever the umask says
        finally:
            os.close(target)

    def _copy_content(self, source: str, target: int) -> None:
        origin = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Most files end within the buffer: one read and one write. The kernel copies the rest
            # of a bigger one, and shares its blocks where the file system can (XFS, btrfs).
            if os.fstat(origin).st_size > _BUFFER_BYTES and _copy_in_kernel(origin, target):
                return
            self._copy_through_buffer(origin, target)
        finally:
            os.close(origin)

    def _copy_through_buffer(self, origin: int, target: int) -> None:
        while size := os.readv(origin, [self._buffer]):
            _write_all(target, self._view[:size])
            if size < _BUFFER_BYTES:
                return


def _copy_in_kernel(origin: int, target: int) -> bool:
    """Copy the whole file; False when the kernel cannot, with nothing copied."""
    copied = 0
    try:
        while size := os.copy_file_range(origin, target, 2**30):
            copied += size
    except OSError as error:
        if copied or error.errno not in _CANNOT_COPY_IN_KERNEL:
            raise
        return False
    return True


def _write_all(target: int, data: memoryview) -> None:
    while data:
        data = data[os.write(target, data) :]
