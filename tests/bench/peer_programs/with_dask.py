"""Dask distributed: a task a command, on two worker processes that are up already."""

import sys
from collections.abc import Sequence

from distributed import Client, LocalCluster

from tests.bench.peer_programs.rounds import serve, spawn


def main() -> None:
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, local_directory=sys.argv[1]
    )
    client = Client(cluster)

    def run(command: Sequence[str], count: int) -> None:
        client.gather(client.map(spawn, [command] * count, pure=False))

    serve(run)
    client.close()
    cluster.close()


if __name__ == "__main__":
    main()
