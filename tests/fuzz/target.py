"""What is fuzzed: a reader of bytes, what to give it, and what may come of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis.strategies import SearchStrategy

MAX_MESSAGE_CHARACTERS = 2_000
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9a-f]{8,}|\d+")
_SHAPE_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class Target:
    """One reader. `name` is also the directory of its corpus.

    `read` gives the kind of answer in a few words, the same for inputs that are refused for the same reason; whatever
    it raises is a failure. `inputs` are drawn beside the corpus and its mutations, some of which have `large_bytes`:
    a megabyte where somebody else may send it, less where only the owner of a file is hurt.
    """

    name: str
    read: Callable[[bytes], str]
    inputs: SearchStrategy[bytes]
    large_bytes: int = 2**20


def refusal(exc: Exception) -> str:
    """The kind of a documented error, once its message has proved to be one that a person can use."""
    message = str(exc)
    assert message, f"{type(exc).__name__} says nothing"
    assert len(message) <= MAX_MESSAGE_CHARACTERS, f"{type(exc).__name__} says {len(message)} characters"
    return f"{type(exc).__name__}: {shape(message)}"


def shape(message: str) -> str:
    """The message without the values in it."""
    return _VALUES.sub("_", message)[:_SHAPE_CHARACTERS]
