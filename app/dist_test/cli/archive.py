"""Unpack a task's artifacts, which a test made and which therefore nobody vouches for."""

import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from dist_test.errors import UnsafeArchive, shortened, shown


def unpack(archive: Path, destination: Path) -> None:
    """Unpack the zip into the directory, which must not exist yet. Raises UnsafeArchive; some may be there then."""
    try:
        with zipfile.ZipFile(archive) as content:
            destination.mkdir()
            _check(content, destination)
            content.extractall(destination)
    # RuntimeError is what zipfile says to a password, NotImplementedError to an unusual compression.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError, OSError) as exc:
        raise UnsafeArchive(f"{archive.name} cannot be unpacked: {shortened(str(exc))}") from exc


def _check(content: zipfile.ZipFile, destination: Path) -> None:
    members = content.infolist()
    for member in members:
        if reason := _objection(member):
            raise UnsafeArchive(
                f"{content.filename and Path(content.filename).name} is not unpacked: {shown(member.filename)} {reason}"
            )
    # zipfile never writes more of a member than its header says.
    total = sum(member.file_size for member in members)
    free = shutil.disk_usage(destination).free
    if total > free:
        raise UnsafeArchive(f"the archive holds {total} bytes, and {destination.parent} has room for {free}")


def _objection(member: zipfile.ZipInfo) -> str | None:
    path = PurePosixPath(member.orig_filename.replace("\\", "/"))
    if not member.filename:
        return "is no name"
    kind = stat.S_IFMT(member.external_attr >> 16)  # appnote.txt 4.4.15: Unix mode in the upper half
    if path.is_absolute() or (path.parts and path.parts[0].endswith(":")):
        return "is an absolute path"
    if ".." in path.parts:
        return "leads out of the directory"
    if "\0" in member.orig_filename:
        return "has a NUL in its name"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is not a file but a link or a device"
    return None
