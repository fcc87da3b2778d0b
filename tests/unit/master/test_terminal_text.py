"""Output of programs as HTML."""

import pytest

from dist_test.master.terminal_text import to_html, to_text


@pytest.mark.parametrize(
    ("output", "html"),
    [
        (b"plain\n", "plain\n"),
        (b'<b a="1">&', "&lt;b a=&#34;1&#34;&gt;&amp;"),
        (b"\x1b[31mred\x1b[0m not", '<span class="ansi-red">red</span> not'),
        (
            b"\x1b[1;32mgood\x1b[39m bold",
            '<span class="ansi-green ansi-bold">good</span><span class="ansi-bold"> bold</span>',
        ),
        (b"\x1b[91mbright\x1b[m.", '<span class="ansi-red">bright</span>.'),
        (b"\x1b[38;5;31mpalette\x1b[48;2;1;2;31mtrue", "palettetrue"),
        (b"\x1b[31m<script>", '<span class="ansi-red">&lt;script&gt;</span>'),
        (b"\x1b[2K\x1b[1;1Hcursor\x1b]0;title\x07 moved\x1b(B", "cursor moved"),
        (b"\x1b]8;;http://evil/\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b]title without an end\nnext line", "\nnext line"),
        (b"\x1b", ""),
        (b"\x1b[", ""),
        (b"\xff\xfe\xc3", "\ufffd\ufffd\ufffd"),
        (b"nul\0 bell\x07 tab\t", "nul\ufffd bell\ufffd tab\t"),
        (b"10%\r20%\r\nend\r\r\n", "10%\n20%\nend\n"),
        ("\u00fcber".encode(), "\u00fcber"),
    ],
    ids=range(16),
)
def test_output_becomes_safe_html(output: bytes, html: str) -> None:
    assert str(to_html(output)) == html


def test_text_has_no_codes_at_all() -> None:
    assert to_text(b"\x1b[31m<red>\x1b[0m\0") == "<red>\ufffd"


def test_megabytes_of_codes_take_no_time_to_speak_of() -> None:
    html = to_html(b"\x1b[31m\x1b]" * 100_000)

    assert "\x1b" not in html
