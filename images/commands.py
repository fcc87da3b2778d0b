"""Run the programs that machines are made of, and say what went wrong with them."""

import subprocess
from collections.abc import Sequence
from pathlib import Path


class MachineError(Exception):
    """A machine, its network or its root tree could not be made, reached or removed."""


def run(*command: str | Path, text: str | None = None, directory: Path | None = None) -> str:
    """Run a program to its end, with `text` as its input; its standard output.

    Raises MachineError with its last words when it fails.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, input=text, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MachineError(
            f"`{' '.join(words)}` ended with exit status {done.returncode}: {done.stderr[-2000:].strip()}"
        )
    return done.stdout


def succeeds(command: Sequence[str | Path]) -> bool:
    """Whether the program ends with status 0; what it prints is dropped."""
    return subprocess.run([str(word) for word in command], capture_output=True, check=False).returncode == 0
