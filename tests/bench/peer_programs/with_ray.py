"""Ray: a task a command, on a cluster of this machine that is up already."""

import sys
from collections.abc import Sequence

import ray

from tests.bench.peer_programs.rounds import serve, spawn


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=sys.argv[1])
    task = ray.remote(num_cpus=1)(spawn)

    def run(command: Sequence[str], count: int) -> None:
        ray.get([task.remote(command) for _ in range(count)])

    serve(run)
    ray.shutdown()


if __name__ == "__main__":
    main()
