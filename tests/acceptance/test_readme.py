"""What README.md tells people to type does what README.md says, and no page links to nowhere."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dist_test.local.configuration import clean_environment

ROOT = Path(__file__).parents[2]
SKIPPED_DIRECTORIES = {".venv", ".git", ".pytest_cache", "node_modules"}
PAGES = sorted(
    path for path in ROOT.rglob("*.md") if not SKIPPED_DIRECTORIES.intersection(path.relative_to(ROOT).parts)
)
# What differs from run to run, and what stands for it while lines are compared. In this order.
VARIABLE = (
    (re.compile(r"\b(hello|demo|shop)\.[\w-]+\.\d+\.\d+-[0-9a-f]{4}\b"), "JOB"),
    (re.compile(r"\b[0-9a-f]{40}"), "HASH"),
    (re.compile(r"(?<![\w:/])/[\w./-]+"), "PATH"),
    (re.compile(r"\d+"), "N"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A block of commands, and the lines of output that the README shows below it."""

    commands: str
    shown: Sequence[str] = ()


def steps(text: str) -> list[Step]:
    """The README's `sh` blocks, each with the `text` block that follows it, if one does before the next heading."""
    parts = re.findall(r"^(?:#+ [^\n]*|```(sh|text)\n(.*?)^```)$", text, flags=re.MULTILINE | re.DOTALL)
    found: list[Step] = []
    previous = ""
    for kind, body in parts:
        if kind == "sh":
            found.append(Step(commands=body))
        elif kind == "text" and previous == "sh":
            found[-1] = Step(commands=found[-1].commands, shown=body.splitlines())
        previous = kind
    return found


def typical(line: str) -> str:
    """The line with what differs from run to run taken out."""
    for pattern, stand_in in VARIABLE:
        line = pattern.sub(stand_in, line)
    return line.strip()


def missing_lines(shown: Sequence[str], output: str) -> list[str]:
    """The shown lines that the output has not, in their order; `...` stands for any number of lines."""
    left = iter([typical(line) for line in output.splitlines()])
    return [line for line in shown if line.strip() != "..." and typical(line) not in left]


def script(blocks: Sequence[Step]) -> str:
    """One shell script of all steps, with a line before each that tells where its output begins."""
    lines = ["set -eu", "exec 2>&1"]
    for step in blocks:
        # The tests must not run the tests.
        commands = step.commands.replace("make test", "make --dry-run test")
        lines += ["echo '@@@'", commands]
    return "\n".join(lines)


@pytest.fixture
def checkout() -> Iterator[Path]:
    """As much of a checkout as the README needs, in an environment of its own; all of it is removed at the end."""
    # Not below pytest's directory: the users that tasks run as must be able to pass through.
    path = Path(tempfile.mkdtemp(prefix="dist_test-readme-", dir="/var/tmp"))
    path.chmod(0o711)
    (path / ".venv").symlink_to(sys.prefix)
    (path / "Makefile").symlink_to(ROOT / "Makefile")
    # The environment is there already; installing into it from here would bend it to this directory.
    (path / "bootstrap.sh").write_text("#!/bin/sh\n")
    (path / "bootstrap.sh").chmod(0o755)
    for name in ("home", "state", "cache", "tmp"):
        (path / name).mkdir(mode=0o711)
    yield path
    run("dist-test local down", path)
    shutil.rmtree(path)


def run(commands: str, checkout: Path) -> "subprocess.CompletedProcess[str]":
    """Run a script in the checkout, with every place that programs write to inside of it."""
    own = {
        "HOME": str(checkout / "home"),
        "XDG_STATE_HOME": str(checkout / "state"),
        "XDG_CACHE_HOME": str(checkout / "cache"),
        "TMPDIR": str(checkout / "tmp"),
        "PATH": f"{checkout / '.venv' / 'bin'}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["sh", "-c", commands],
        cwd=checkout,
        env=clean_environment(os.environ) | own,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def processes_in(directory: Path) -> list[str]:
    """The command lines of the processes that know of the directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue  # it ended as we looked
        if os.fsencode(directory) in command + environment:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def check(ran: "subprocess.CompletedProcess[str]", blocks: Sequence[Step], directory: Path) -> None:
    """Have each block have printed what it is shown to print, and no process be left."""
    assert ran.returncode == 0, ran.stdout
    outputs = ran.stdout.split("@@@\n")[1:]
    assert len(outputs) == len(blocks)
    missing = {
        step.commands: lines
        for step, output in zip(blocks, outputs, strict=True)
        if (lines := missing_lines(step.shown, output))
    }
    assert missing == {}, ran.stdout
    assert processes_in(directory) == []


def test_the_readme_does_what_it_says(checkout: Path) -> None:
    blocks = steps((ROOT / "README.md").read_text(encoding="utf-8"))
    ran = run(script(blocks), checkout)
    check(ran, blocks, checkout)


def test_a_line_that_is_not_printed_is_noticed() -> None:
    output = "up in /a/b: http://127.0.0.1:1\nJob hello.ann.1.2-0a1b failed (2 tests)\n"
    assert missing_lines(["up in /var/x: http://127.0.0.1:22", "...", "(2 tests)"], output) == ["(2 tests)"]
    assert missing_lines(["Job hello.bob.17.3-ffff failed (2 tests)"], output) == []


def test_the_readme_opens_with_the_two_commands() -> None:
    first, second, *_ = steps((ROOT / "README.md").read_text(encoding="utf-8"))
    assert (first.commands, second.commands) == ("make demo\n", "make test\n")


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """The files that a page links to, and the place inside each."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target, place in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
        yield (path.parent / target).resolve() if target else path, place


def anchors(path: Path) -> set[str]:
    """The places of a page that a link can name: its headings, as code hosts spell them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert [str(target) for target, _ in links(path) if not target.exists()] == []
    assert [(str(target), place) for target, place in links(path) if place and place not in anchors(target)] == []


def test_no_page_is_out_of_reach() -> None:
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            todo += [target for target, _ in links(page)]
    manual = {path for path in PAGES if path.is_relative_to(ROOT / "docs") and "adr" not in path.parts}
    assert manual - reached == set()
