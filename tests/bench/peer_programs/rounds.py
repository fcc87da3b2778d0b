"""How a peer that stays up is driven: a line of JSON in, the seconds that its tasks took out."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence


def spawn(command: Sequence[str]) -> None:
    """What each peer's tasks do: run a command, keep nothing of its output."""
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def serve(run: Callable[[Sequence[str], int], None]) -> None:
    """Say `ready`; for each line with a command and a count, run that and answer the seconds until the last result."""
    # What the peer prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run(["/bin/true"], 100)
    print("ready", file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        began = time.perf_counter()
        run(request["command"], request["count"])
        print(time.perf_counter() - began, file=answers)
