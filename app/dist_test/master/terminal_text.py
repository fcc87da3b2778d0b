"""The output of programs that think they write to a terminal, as HTML: colours as classes, all other codes left out."""

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

# ECMA-48: CSI sequences; strings such as a window's title, bounded where their end is missing; two-character codes.
_CODE = re.compile(
    r"\x1b\[(?P<style>[0-9;:]*)m"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]"
    r"|\x1b"
)
_LINE_END = re.compile(r"\r+\n?")
# HTML has no NUL, and nobody sees the others. Tab and line feed stay.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_BOLD, _NOT_BOLD = 1, (21, 22)
_PALETTE = {2: 4, 5: 2}  # how many numbers follow 38 or 48: r, g, b or a place in a palette, and the kind itself


class _Style:
    """What the codes so far say."""

    def __init__(self) -> None:
        self._colour: str | None = None
        self._is_bold = False

    def take(self, codes: str) -> None:
        """Heed a code; colours from palettes and of the ground are for terminals only."""
        numbers = [int(number) for number in re.split("[;:]", codes) if number and len(number) < 4] or [0]
        while numbers:
            number = numbers.pop(0)
            if number in (38, 48):
                del numbers[: _PALETTE.get(numbers[0], 1) if numbers else 0]
            else:
                self._heed(number)

    def _heed(self, number: int) -> None:
        if number in (0, 39):
            self._colour = None
        if number in (0, *_NOT_BOLD):
            self._is_bold = False
        elif number == _BOLD:
            self._is_bold = True
        elif 30 <= number <= 37 or 90 <= number <= 97:
            self._colour = _COLOURS[number % 10]

    @property
    def classes(self) -> str:
        names = [f"ansi-{self._colour}"] if self._colour else []
        return " ".join([*names, *(["ansi-bold"] if self._is_bold else [])])


def to_html(output: bytes) -> Markup:
    """The output as safe HTML for a `pre`, with U+FFFD for what is not UTF-8 and for control characters. PURE."""
    return Markup("").join(_spans(_decoded(output)))


def to_text(output: bytes) -> str:
    """The output without any codes. PURE."""
    return _CONTROL.sub("\ufffd", _CODE.sub("", _decoded(output)))


def _decoded(output: bytes) -> str:
    return _LINE_END.sub("\n", output.decode(errors="replace"))


def _spans(text: str) -> Iterator[Markup]:
    style, begin = _Style(), 0
    for code in _CODE.finditer(text):
        yield _span(style, text[begin : code.start()])
        begin = code.end()
        if code["style"] is not None:
            style.take(code["style"])
    yield _span(style, text[begin:])


def _span(style: _Style, text: str) -> Markup:
    text = _CONTROL.sub("\ufffd", text)
    if not text or not style.classes:
        return escape(text)
    return Markup('<span class="{}">{}</span>').format(style.classes, text)
