"""Strategies: kept inputs with bytes changed, parts of them a megabyte long, documents with values out of place."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

LARGE_BYTES = 2**20
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


def mutated(inputs: Sequence[bytes]) -> SearchStrategy[bytes]:
    """One of the inputs with a few changes."""
    return _mutated(st.sampled_from(inputs))


@st.composite
def _mutated(draw: DrawFn, inputs: SearchStrategy[bytes]) -> bytes:
    data = draw(inputs)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 64)))
        piece = draw(
            st.one_of(
                st.sampled_from(TOKENS),
                st.binary(max_size=4),
                st.just(b""),
                st.integers(2, 50).map(lambda times, cut=data[start:end]: cut * times),
                inputs.map(lambda other, place=start: other[place : place + 200]),
            )
        )
        data = data[:start] + piece + data[end:]
    return data


@st.composite
def large(draw: DrawFn, inputs: Sequence[bytes]) -> bytes:
    """One of the inputs, with a part of it, or a token, repeated until it has a megabyte."""
    data = draw(st.sampled_from(inputs))
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 40)))
    piece = draw(st.sampled_from((data[start:end], *TOKENS, b"a/", b"a,", b'"a",', b" ", b"a"))) or b"a"
    return data[:start] + piece * ((LARGE_BYTES - len(data)) // len(piece)) + data[end:]


def edited_json(documents: Sequence[Any], values: Sequence[str] = JSON_VALUES) -> SearchStrategy[bytes]:
    """One of the documents with values replaced, keys removed and keys added, as JSON."""
    return _edited(documents, values, json.dumps)


def edited_literal(documents: Sequence[Any], values: Sequence[str] = LITERALS) -> SearchStrategy[bytes]:
    """The same as a Python literal."""
    return _edited(documents, values, repr)


@st.composite
def _edited(draw: DrawFn, documents: Sequence[Any], values: Sequence[str], write: Callable[[Any], str]) -> bytes:
    # A box, so that the document itself can be replaced as well.
    box = [deepcopy(draw(st.sampled_from(documents)))]
    put: dict[str, str] = {}
    for number in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(_places(box)))
        name = f"@{number}@"
        put[name] = draw(st.sampled_from(values))
        change = draw(st.sampled_from(("replace", "replace", "remove", "add")))
        _change(container, key, change, name)
    text = write(box[0]) if box else ""
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
