"""pytest-xdist: a test a command. pytest reads this file; the command and the count are in the environment."""

import json
import os

import pytest

from tests.bench.peer_programs.rounds import spawn

COMMAND: list[str] = json.loads(os.environ["PEER_COMMAND"])
COUNT = int(os.environ["PEER_COUNT"])


@pytest.mark.parametrize("number", range(COUNT))
def test_command(number: int) -> None:
    spawn(COMMAND)
