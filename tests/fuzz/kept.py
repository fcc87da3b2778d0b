"""The inputs that are kept, one file each, in `corpus/TARGET/`.

`found-…`  made something fail once: it is tried again each time, for good
`kept-…`   was the first to get its kind of answer
others     written by hand
"""

import hashlib
from pathlib import Path

DIRECTORY = Path(__file__).with_name("corpus")
MAX_KEPT_BYTES = 2_048
MAX_KEPT_FILES = 10  # of each target, found and handwritten ones aside


class Corpus:
    """The kept inputs of one target."""

    def __init__(self, name: str) -> None:
        self._directory = DIRECTORY / name

    def inputs(self) -> dict[str, bytes]:
        """All of them, by the names of their files."""
        return {path.name: path.read_bytes() for path in sorted(self._directory.iterdir())}

    def keep(self, data: bytes) -> bool:
        """Keep an input that got a new kind of answer, if it is small and there is room; say whether it is new."""
        is_full = len(list(self._directory.glob("kept-*"))) >= MAX_KEPT_FILES
        return not is_full and len(data) <= MAX_KEPT_BYTES and self._write("kept", data)

    def keep_failure(self, data: bytes) -> Path:
        """Keep an input that made something fail; give back its file."""
        self._write("found", data)
        return self._directory / _name("found", data)

    def _write(self, prefix: str, data: bytes) -> bool:
        path = self._directory / _name(prefix, data)
        is_new = not path.exists()
        path.write_bytes(data)
        return is_new


def _name(prefix: str, data: bytes) -> str:
    return f"{prefix}-{hashlib.sha1(data, usedforsecurity=False).hexdigest()[:12]}"
