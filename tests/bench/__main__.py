"""What `make bench` prints: figures of this machine as tables for docs/explanation/performance.md.

Usage: python -m tests.bench [peers fair_share load figures]. Ends 1 when a figure misses what it is held to.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping

from tests.bench import fair_share, figures, load, peers
from tests.bench.figure import print_machine

PARTS: Mapping[str, Callable[[], bool]] = {
    "peers": lambda: peers.compare(rounds=5, peers=list(peers.PEERS)),
    "fair_share": fair_share.measure,
    "load": lambda: load.measure(list(load.PARTS)),
    "figures": figures.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all unless given")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"no part is called {unknown[0]}")
    verdicts = []
    for part in arguments.parts or PARTS:
        print(f"\n### `make bench PART={part}`\n")
        print_machine()
        began = time.monotonic()
        verdicts.append(PARTS[part]())
        print(f"\nTook {(time.monotonic() - began) / 60:.1f} minutes.", flush=True)
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
