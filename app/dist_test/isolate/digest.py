"""SHA-1 digests, in lower-case hex, of uncompressed content: the names of blobs."""

import hashlib
import re
from io import BufferedReader, FileIO

_DIGEST = re.compile(r"[0-9a-f]{40}")


def is_digest(text: object) -> bool:
    """Whether this is a digest as it is written: 40 lower-case hex digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def digest_bytes(content: bytes) -> str:
    """The digest of these bytes."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def digest_stream(stream: BufferedReader | FileIO) -> str:
    """The digest of what is left in an open file."""
    return hashlib.file_digest(stream, "sha1").hexdigest()
