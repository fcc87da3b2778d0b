"""Kept inputs with bytes changed, or with a part of them made very long; documents with values out of place."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_DEEP = 600  # deep enough for repr to give up, not for json
# What has broken readers of text before.
TOKENS = (
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\r\n", b"\n", b"\\", b"'", b'"', b"[", b"{", b"(", b"]", b"}", b")"),
    *(b"-", b"%", b"%00", b"%ff", b"..", b"../", b"/", b"//", b"\\ud800", b"\\u0000", b"\xe2\x80\xa8", b"\xef\xbb\xbf"),
    *(b"NaN", b"1e999", b"-1", b"9223372036854775808", b"0x" + b"f" * 5000, b"9" * 5000, b"[" * _DEEP, b"~", b"\\d"),
)
# Values as JSON writes them; what is at the limits of types, of recursion and of ranges.
JSON_VALUES = (
    *("null", "true", "-1", "0", "0.5", "1e400", "NaN", "-Infinity", "9" * 19, "9" * 400, "9" * 5000, '""', "[]", "{}"),
    *(r'"\u0000"', r'"\ud800"', r'"\u202e"', '"../x"', '"/x"', '"."', '"' + "x" * 70_000 + '"', "[[]]", '[""]', "[{}]"),
    *("[" * _DEEP + "]" * _DEEP, '{"a":' * _DEEP + "0" + "}" * _DEEP, "[" * 50_000, '"' + "a/" * 3_000 + 'a"'),
)
# And as Python does.
LITERALS = (
    *("None", "True", "-1", "0", "1j", "0x" + "f" * 5000, "9" * 5000, "''", "[]", "{}", "()", "{1}", "b''", r"'\0'"),
    *(
        r"'\ud800'",
        r"'\d'",
        "'../x'",
        "'/x'",
        "'" + "x" * 70_000 + "'",
        "'<(X)'",
        "'a' 'b'",
        "x",
        "f''",
        "...",
        "[*()]",
    ),
    *("[" * 90 + "]" * 90, "[" * _DEEP, "-" * 3_000 + "1", "1" + "+1" * 3_000, "lambda: 0", "__import__('os')"),
)


def mutated(random: Random, inputs: Sequence[bytes]) -> bytes:
    """One of the inputs with a few changes."""
    data = random.choice(inputs)
    for _ in range(random.randint(1, 4)):
        start = random.randint(0, len(data))
        end = random.randint(start, min(len(data), start + 64))
        data = data[:start] + _piece(random, inputs, data[start:end]) + data[end:]
    return data


def _piece(random: Random, inputs: Sequence[bytes], before: bytes) -> bytes:
    """What takes the place of a few bytes."""
    match random.randrange(6):
        case 0:
            return b""
        case 1:
            return random.randbytes(random.randint(1, 4))
        case 2:
            return before * random.randint(2, 50)
        case 3:
            other = random.choice(inputs)
            start = random.randint(0, len(other))
            return other[start : start + random.randint(1, 200)]
        case 4:
            return bytes(byte ^ (1 << random.randrange(8)) for byte in before)
    return random.choice(TOKENS)


def enlarged(random: Random, inputs: Sequence[bytes], size_bytes: int) -> bytes:
    """One of the inputs, with a part of it, or a token, repeated until it has this size."""
    data = random.choice(inputs)
    start = random.randint(0, len(data))
    end = random.randint(start, min(len(data), start + 40))
    piece = random.choice((data[start:end], data[start:end], *TOKENS, b"a/", b"a,", b'"a",', b" ", b"a")) or b"a"
    return data[:start] + piece * ((size_bytes - len(data)) // len(piece)) + data[end:]


def edited_json(documents: Sequence[Any], values: Sequence[str] = JSON_VALUES) -> SearchStrategy[bytes]:
    """One of the documents with values replaced, keys removed and keys added, as JSON."""
    return _edited(documents, values, json.dumps)


def edited_literal(documents: Sequence[Any], values: Sequence[str] = LITERALS) -> SearchStrategy[bytes]:
    """The same as a Python literal."""
    return _edited(documents, values, repr)


def _edited(documents: Sequence[Any], values: Sequence[str], write: Callable[[Any], str]) -> SearchStrategy[bytes]:
    # One number for all choices: drawing each by itself costs more than reading what comes of it.
    return st.integers(0, 2**63).map(lambda number: _edit(Random(number), documents, values, write))


def _edit(random: Random, documents: Sequence[Any], values: Sequence[str], write: Callable[[Any], str]) -> bytes:
    # A box, so that the document itself can be replaced as well.
    box = [deepcopy(random.choice(documents))]
    put: dict[str, str] = {}
    for number in range(random.randint(1, 3)):
        container, key = random.choice(_places(box))
        name = f"@{number}@"
        put[name] = random.choice(values)
        _change(container, key, random.choice(("replace", "replace", "remove", "add")), name)
    text = write(box[0])
    for name, value in put.items():
        text = text.replace(f'"{name}"', value).replace(f"'{name}'", value)
    return text.encode("utf-8", "surrogatepass")


def _change(container: Any, key: Any, change: str, name: str) -> None:
    if change == "remove" and isinstance(container, dict):
        del container[key]
    elif change == "add" and isinstance(container, dict):
        container[name] = name
    elif change == "add":
        container.append(name)
    else:
        container[key] = name


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in the document that holds a value, as a container and a key."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        container = todo.pop()
        inside = list(container.items() if isinstance(container, Mapping) else enumerate(container))
        found += [(container, key) for key, _ in inside]
        todo += [item for _, item in inside if isinstance(item, dict | list)]
    return found
