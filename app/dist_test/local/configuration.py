"""The files of one state directory, and the configuration that its programs and clients read."""

import configparser
import io
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dist_test.errors import LocalClusterError
from dist_test.local.daemons import Beanstalkd, MariaDb, SeaweedFs
from dist_test.local.program import write_private
from dist_test.settings.catalog import CATALOG

BUCKET = "dist-test-results"
_DRAIN_SECONDS = 5  # what `down` waits for running tasks
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where things are in a state directory."""

    state_dir: Path

    @property
    def lock(self) -> Path:
        return self.state_dir / "lock"

    @property
    def status(self) -> Path:
        return self.state_dir / "status.json"

    @property
    def log(self) -> Path:
        return self.state_dir / "log"

    @property
    def service_configuration(self) -> Path:
        return self.state_dir / "dist_test.cnf"

    @property
    def client_configuration(self) -> Path:
        return self.state_dir / "client.cnf"

    @property
    def cache_dir(self) -> Path:
        return self.state_dir / "cache"

    def make(self) -> None:
        """Make the state directory.

        Raises LocalClusterError when root's task users could not get through to the trees in which they run.
        """
        self.state_dir.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            self.state_dir.chmod(0o700)
            return
        # Tasks run as other users: they pass through, and read nothing that is not meant for them.
        self.state_dir.chmod(0o711)
        closed = [path for path in self.state_dir.resolve().parents if not path.stat().st_mode & 0o001]
        if closed:
            raise LocalClusterError(
                f"the users that tasks run as cannot pass through {closed[0]}; give a state directory elsewhere:"
                " --state /var/lib/dist_test/local"
            )


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Where a cluster lives unless told otherwise; for root outside its home, which task users cannot enter."""
    if state_home := environ.get("XDG_STATE_HOME"):
        return Path(state_home) / "dist_test" / "local"
    if os.geteuid() == 0:
        return Path("/var/lib/dist_test/local")
    return Path.home() / ".local/state/dist_test/local"


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Ports on loopback, of what the configuration speaks of."""

    master: int
    isolate: int

    @property
    def master_url(self) -> str:
        return f"http://{_LOOPBACK}:{self.master}"

    @property
    def isolate_url(self) -> str:
        return f"http://{_LOOPBACK}:{self.isolate}"


def write_configurations(
    files: Files, addresses: Addresses, mariadb: MariaDb, beanstalkd: Beanstalkd, seaweedfs: SeaweedFs
) -> None:
    """Write the configuration of the services and that of the clients, readable by their owner only."""
    clients = {
        "dist_test": {"master": addresses.master_url, "job_path": str(files.state_dir / "last-job")},
        "isolate": {"server": addresses.isolate_url, "cache_dir": str(files.cache_dir), "cache_min_free_bytes": "256M"},
    }
    services = clients | {
        "aws": {
            "access_key": seaweedfs.access_key,
            "secret_key": seaweedfs.secret_key,
            "test_result_bucket": BUCKET,
            "endpoint_url": seaweedfs.endpoint_url,
            "region": seaweedfs.region,
        },
        "mysql": {
            "host": mariadb.host,
            "port": str(mariadb.port),
            "user": mariadb.user,
            "password": mariadb.password,
            "database": mariadb.database,
        },
        "beanstalk": {"host": beanstalkd.host, "port": str(beanstalkd.port)},
        "master": {"bind": f"{_LOOPBACK}:{addresses.master}"},
        "slave": {
            "drain_seconds": str(_DRAIN_SECONDS),
            "create_task_users": "true" if os.geteuid() == 0 else "false",
            "container_program": _container_program(),
        },
        "isolate_server": {
            "bind": f"{_LOOPBACK}:{addresses.isolate}",
            "store": f"disk:{(files.state_dir / 'blobs').absolute()}",
        },
    }
    write_private(files.client_configuration, _ini(clients))
    write_private(files.service_configuration, _ini(services))


def client_environment(state_dir: Path, master_url: str, isolate_url: str) -> dict[str, str]:
    """The variables that point clients at the cluster; the addresses too, since variables win over the file."""
    return {
        "DIST_TEST_CNF": str(Files(state_dir=state_dir).client_configuration),
        "DIST_TEST_MASTER": master_url,
        "ISOLATE_SERVER": isolate_url,
    }


def env_line(state_dir: Path) -> str:
    """What to type to point a shell's clients at the cluster."""
    is_default = state_dir == default_state_dir(os.environ).absolute()
    state = "" if is_default else f" --state {shlex.quote(str(state_dir))}"
    return f'eval "$(dist-test local env{state})"'


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables that would override the configuration, and without proxies for loopback."""
    overrides = {setting.environment for setting in CATALOG}
    kept = {name: value for name, value in environ.items() if name not in overrides}
    direct = ",".join(filter(None, [environ.get("no_proxy") or environ.get("NO_PROXY"), _LOOPBACK]))
    return kept | {"no_proxy": direct, "NO_PROXY": direct}


def _container_program() -> str:
    # The client alone, without the daemon behind this socket, runs nothing; podman needs no daemon.
    return "docker" if Path("/run/docker.sock").is_socket() else "podman"


def _ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict(sections)
    text = io.StringIO("# Written by `dist-test local up` at each start; changes are lost.\n")
    text.seek(0, io.SEEK_END)
    parser.write(text)
    return text.getvalue()
