"""What `make bench` prints: figures of this machine as tables, with what they are held to.

Usage: python -m tests.bench [peers]. Ends 1 when a figure misses what it is held to.
"""

import argparse
import sys
from collections.abc import Callable, Mapping

from tests.bench import peers
from tests.bench.figure import print_machine

PARTS: Mapping[str, Callable[[], bool]] = {
    "peers": lambda: peers.compare(rounds=5, peers=list(peers.PEERS)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    arguments = parser.parse_args()
    print_machine()
    verdicts = [PARTS[part]() for part in arguments.parts]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
