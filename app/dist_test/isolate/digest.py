"""Digests, in lower-case hex, of uncompressed content: the names of blobs. SHA-1, unless a namespace says otherwise."""

import hashlib
import re
from io import BufferedReader, FileIO

# isolate.md 1: a prefix of the namespace picks the algorithm
_PREFIXES = {"sha256-": "sha256", "sha512-": "sha512"}
_HEX_DIGITS = {"sha1": 40, "sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


def algorithm_of(namespace: str) -> str:
    """The algorithm of a namespace's digests, as hashlib calls it."""
    return next((name for prefix, name in _PREFIXES.items() if namespace.startswith(prefix)), "sha1")


def hex_digits(algorithm: str) -> int:
    """How many hex digits a digest of this algorithm has."""
    return _HEX_DIGITS[algorithm]


def is_digest(text: object, algorithm: str = "sha1") -> bool:
    """Whether this is a digest as it is written: for SHA-1, 40 lower-case hex digits."""
    return isinstance(text, str) and len(text) == _HEX_DIGITS[algorithm] and _HEX.fullmatch(text) is not None


def digest_bytes(content: bytes) -> str:
    """The SHA-1 digest of these bytes."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def digest_stream(stream: BufferedReader | FileIO) -> str:
    """The SHA-1 digest of what is left in an open file."""
    return hashlib.file_digest(stream, "sha1").hexdigest()
