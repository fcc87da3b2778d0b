"""The .isolate file and .isolated.gen.json."""

import json
import pprint
from collections.abc import Mapping
from pathlib import Path

import pytest

from dist_test.errors import InvalidIsolate
from dist_test.isolate.isolate_file import IsolateFile, Variables, load_isolate, parse_archive_arguments, parse_gen_file

BASE = Path("/src/p/q/t.isolate")


def load(
    text: str | Mapping[str, str], variables: Variables | None = None, *, working_directory: Path = Path("/src")
) -> IsolateFile:
    texts = {str(BASE): text} if isinstance(text, str) else text
    return load_isolate(
        BASE, variables or Variables(), working_directory=working_directory, read=lambda path: texts[str(path)]
    )


def test_paths_are_relative_to_the_file_and_keep_their_slash() -> None:
    isolate = load("{'variables': {'command': ['./x', 'y'], 'files': ['a', 'd/', '../../run.sh', 'a', '/abs/z']}}")
    assert isolate == IsolateFile(
        directory=Path("/src/p/q"),
        command=("./x", "y"),
        files=("/src/p/q/a", "/src/p/q/d/", "/src/run.sh", "/abs/z"),
        read_only=None,
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("# a comment\n  {'variables': {'files': ['a']}} # another\n", id="comments and indentation"),
        pytest.param("{u'variables': {u'files': [u'a']}}", id="Python 2's pprint"),
        pytest.param("{'variables': {'files': [('a'\n 'b')]}}".replace("'b'", "''"), id="brackets"),
        pytest.param("{'variables': {'files': ['a' '']}}", id="texts side by side"),
        pytest.param(r"{'variables': {'files': ['\u0061']}}", id="Gson's escapes"),
        pytest.param("{'variables': {'isolate_dependency_tracked': ['a']}}", id="the old key"),
    ],
)
def test_what_frontends_write_is_read(text: str) -> None:
    assert load(text).files == ("/src/p/q/a",)


def test_long_texts_are_read_as_pprint_breaks_them() -> None:
    long = "--gtest_filter=" + " ".join(f"Suite{number}.Case" for number in range(20))
    written = pprint.pformat({"variables": {"command": ["run", long], "files": ["d/", "it's"]}})
    assert "'\n" in written
    isolate = load(written)
    assert isolate.command == ("run", long)
    assert isolate.files == ("/src/p/q/d/", "/src/p/q/it's")


def test_gsons_escapes_are_those_of_json() -> None:
    command = ["-Dx=<&>", "it's", "back\\slash", "é"]
    text = json.dumps({"variables": {"command": command}})
    for character in "=<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    assert load(text.replace('"', "'")).command == tuple(command)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="list"),
        pytest.param("{'variables': {}}, {}", id="two dicts"),
        pytest.param("__import__('os').abort()", id="code"),
        pytest.param("{'x': {}}", id="unknown key"),
        pytest.param("{'variables': {'x': 1}}", id="unknown variable key"),
        pytest.param("{'variables': []}", id="variables as list"),
        pytest.param("{'variables': {'files': 'a'}}", id="files as text"),
        pytest.param("{'variables': {'files': ['a\\\\b']}}", id="backslash"),
        pytest.param("{'variables': {'command': [1]}}", id="number in command"),
        pytest.param("{'variables': {'command': ['\\ud800']}}", id="half a character in command"),
        pytest.param("{'variables': {'files': ['a\\0b']}}", id="NUL in files"),
        pytest.param("{'variables': {'read_only': 3}}", id="read_only 3"),
        pytest.param("{'conditions': {}}", id="conditions as dict"),
        pytest.param("{'conditions': [['OS==1', {'variables': {}}, {}]]}", id="else branch"),
        pytest.param("{'conditions': [['OS==1', {}]]}", id="condition without variables"),
        pytest.param("{'conditions': [['OS==1', {'variables': {'x': 1}}]]}", id="unknown key in a condition"),
        pytest.param("{[]: 1}", id="not hashable"),
    ],
)
def test_what_the_format_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(InvalidIsolate):
        load(text, Variables(config={"OS": "2"}))


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("OS == 'linux'", True),
        ('OS=="mac"', False),
        ("BITS == 64", True),
        ("BITS == '64'", False),
        ("OS == 'mac' or BITS == 64", True),
        ("OS == 'linux' and BITS == 32", False),
        ("OS == 'mac' and BITS == 32 or OS == 'linux'", True),
        ("OS == 'mac' and (BITS == 32 or OS == 'linux')", False),
    ],
)
def test_conditions_look_at_config_variables(expression: str, holds: bool) -> None:
    text = repr({"conditions": [[expression, {"variables": {"files": ["a"]}}]]})
    isolate = load(text, Variables(config={"OS": "linux", "BITS": "64"}))
    assert bool(isolate.files) is holds


@pytest.mark.parametrize(
    "expression",
    [
        "OS != 'x'",
        "not OS == 'x'",
        "OS",
        "OS == BITS",
        "'x' == OS",
        "OS == 1.5",
        "f(OS) == 1",
        "OS == 'a' == 'b'",
        "(",
        "",
    ],
)
def test_a_condition_of_another_form_is_refused(expression: str) -> None:
    with pytest.raises(InvalidIsolate):
        load(repr({"conditions": [[expression, {"variables": {}}]]}), Variables(config={"OS": "x", "BITS": "1"}))


def test_a_condition_on_a_name_without_value_is_refused_whatever_the_others_say() -> None:
    text = repr({"conditions": [["OS == 'mac' and X == 1", {"variables": {}}]]})
    with pytest.raises(InvalidIsolate, match="--config-variable X"):
        load(text, Variables(config={"OS": "linux"}, extra={"X": "1"}))


def test_variables_are_replaced_by_path_then_extra_then_config() -> None:
    variables = Variables(
        path={"P": "/p", "X": "/path"}, extra={"X": "extra", "Y": "extra"}, config={"Y": "config", "Z": "z"}
    )
    isolate = load("{'variables': {'command': ['<(X)-<(Y)-<(Z)<(EXECUTABLE_SUFFIX)'], 'files': ['<(P)/f']}}", variables)
    assert (isolate.command, isolate.files) == (("/path-extra-z",), ("/p/f",))


def test_a_relative_path_variable_is_relative_to_the_working_directory() -> None:
    variables = Variables(path={"OUT": "out"})
    isolate = load("{'variables': {'command': ['<(OUT)/x'], 'files': ['<(OUT)/x']}}", variables)
    assert (isolate.command, isolate.files) == (("../../out/x",), ("/src/out/x",))


def test_a_variable_without_value_is_refused() -> None:
    with pytest.raises(InvalidIsolate, match="--extra-variable X=VALUE"):
        load("{'variables': {'command': ['<(X)']}}")


def test_included_files_are_rebased_and_the_own_command_wins() -> None:
    isolate = load(
        {
            "/src/p/q/t.isolate": "{'includes': ['../o.isolate'], 'variables': {'command': ['own'], 'files': ['a']}}",
            "/src/p/o.isolate": "{'variables': {'command': ['other'], 'files': ['b', 'q/a'], 'read_only': 1}}",
        }
    )
    assert isolate == IsolateFile(
        directory=Path("/src/p/q"), command=("own",), files=("/src/p/q/a", "/src/p/b"), read_only=1
    )


def test_an_included_command_runs_in_the_directory_of_its_file() -> None:
    isolate = load(
        {
            "/src/p/q/t.isolate": "{'includes': ['../o.isolate']}",
            "/src/p/o.isolate": "{'variables': {'command': ['o']}}",
        }
    )
    assert (isolate.command, isolate.directory) == (("o",), Path("/src/p"))


def test_a_file_that_includes_itself_is_refused() -> None:
    with pytest.raises(InvalidIsolate, match="includes itself"):
        load("{'includes': ['../q/t.isolate']}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-i", "a.isolate", "-s", "out/a.0.isolated", "--extra-variable", "K=V"],
        ["--isolate=a.isolate", "-isolated=out/a.0.isolated", "--extra-variable", "K", "V"],
        ["-isolate", "a.isolate", "--isolated", "out/a.0.isolated", "-extra-variable=K=V"],
    ],
)
def test_flags_have_one_dash_or_two_and_an_equals_sign_or_a_space(arguments: list[str]) -> None:
    options = parse_gen_file(json.dumps({"version": 1, "dir": "/d", "args": arguments, "name": "ignored"}))
    assert options.isolate == Path("/d/a.isolate")
    assert options.isolated == Path("/d/out/a.0.isolated")
    assert options.name == "a.0"
    assert options.variables.extra == {"K": "V"}
    assert options.blacklist is None


def test_every_kind_of_variable_and_blacklist_is_read() -> None:
    arguments = [
        "-i",
        "i",
        "-s",
        "s",
        "--path-variable",
        "A",
        "/x",
        "--config-variable",
        "B=1",
        "--blacklist",
        "*.o",
        "--blacklist=.git",
    ]
    options = parse_archive_arguments(arguments, Path("/d"))
    assert options.variables == Variables(path={"A": "/x"}, config={"B": "1"})
    assert options.blacklist == ("*.o", ".git")


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("{", id="not JSON"),
        pytest.param("[]", id="a list"),
        pytest.param('{"dir": "/d", "args": ["-i", "i", "-s", "s"]}', id="no version"),
        pytest.param('{"version": 2, "dir": "/d", "args": ["-i", "i", "-s", "s"]}', id="version 2"),
        pytest.param('{"version": 1, "dir": "d", "args": ["-i", "i", "-s", "s"]}', id="relative dir"),
        pytest.param('{"version": 1, "dir": "/d", "args": "-i i -s s"}', id="args as text"),
        pytest.param('{"version": 1, "dir": "/d", "args": ["-i", "i"]}', id="no isolated"),
        pytest.param('{"version": 1, "dir": "/d", "args": ["-s", "s"]}', id="no isolate"),
        pytest.param('{"version": 1, "dir": "/d", "args": ["-i", "i", "-s"]}', id="flag without value"),
        pytest.param('{"version": 1, "dir": "/d", "args": ["-i", "i\\u0000", "-s", "s"]}', id="NUL in args"),
        pytest.param('{"version": 1, "dir": "/d", "args": ["-i", "\\ud800", "-s", "s"]}', id="half a character"),
        pytest.param('{"version": 1, "dir": "/d", "args": ["-i", "i", "-s", "s", "x"]}', id="positional"),
        pytest.param('{"version": 1, "dir": "/d", "args": ["-i", "i", "-s", "s", "--x=1"]}', id="unknown flag"),
        pytest.param(
            '{"version": 1, "dir": "/d", "args": ["-i", "i", "-s", "s", "--extra-variable", "K"]}', id="K alone"
        ),
        pytest.param(
            '{"version": 1, "dir": "/d", "args": ["-i", "i", "-s", "s", "--extra-variable", "1=2"]}', id="name"
        ),
    ],
)
def test_a_gen_file_that_is_not_one_is_refused(document: str) -> None:
    with pytest.raises(InvalidIsolate):
        parse_gen_file(document)
