"""A bucket in memory, for what reads logs and artifacts. As with S3, a range outside of an object is an error."""

import io
from collections.abc import Mapping

from dist_test.errors import ResultNotFound, ResultStoreUnavailable


class FakeResults:
    """Objects by key. `reads` has the (start, size) of every range that was asked for."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = dict(objects)
        self.reads: list[tuple[int, int]] = []

    def open(self, key: str) -> io.BytesIO:
        return io.BytesIO(self._content(key))

    def read_range(self, key: str, *, start: int, size_bytes: int) -> bytes:
        content = self._content(key)
        self.reads.append((start, size_bytes))
        if size_bytes < 1 or not 0 <= start < len(content):
            raise ResultStoreUnavailable(f"the range {start}+{size_bytes} is not satisfiable")
        return content[start : start + size_bytes]

    def presign_get(self, key: str, *, seconds: int = 1, filename: str | None = None) -> str:
        return f"http://bucket/{key}?seconds={seconds}&filename={filename}"

    def _content(self, key: str) -> bytes:
        try:
            return self._objects[key]
        except KeyError as exc:
            raise ResultNotFound(f"there is no {key}") from exc
