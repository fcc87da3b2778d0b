"""Run jobs on a cluster whose parts are killed, frozen, cut off and restarted: `python -m tests.chaos --seeds 5`.

Ends 1 at the first seed for which something does not hold, and says how to run that one again.
"""

import argparse
import sys

from .trial import Plan, TrialFailed, run_trial


def main() -> int:
    options = _parser().parse_args()
    first = options.seed
    for seed in range(first, first + options.seeds):
        plan = Plan(seed=seed, tasks=options.tasks, fault_seconds=options.seconds)
        try:
            run_trial(plan, lambda line: print(line, flush=True))
        except TrialFailed as exc:
            print(exc, file=sys.stderr)
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of a run (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=100, help="for how long faults begin (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
