"""Which blobs a blob names. PURE.

More forgiving than dist_test.isolate.format: a document of a version that no slave of ours can read may still be
somebody's. What is too much is kept too long; what is missed is deleted.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple


class References(NamedTuple):
    """The digests that an .isolated document names: of files, and of documents that name more."""

    files: frozenset[str]
    includes: frozenset[str]


def references(content: bytes) -> References | None:
    """What the document names; None when the content is no .isolated document."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    files = document.get("files")
    entries = files.values() if isinstance(files, dict) else ()
    return References(
        files=frozenset(_texts(entry.get("h") for entry in entries if isinstance(entry, dict))),
        includes=frozenset(_texts(document.get("includes") or ())),
    )


def _texts(values: object) -> Iterator[str]:
    if hasattr(values, "__iter__"):
        yield from (value for value in values if isinstance(value, str))
