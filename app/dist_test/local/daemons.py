"""The servers that dist_test stands on, as child processes: MariaDB, beanstalkd and SeaweedFS's S3."""

import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from dist_test.errors import LocalClusterError
from dist_test.local.program import ANSWER_SECONDS, Program, beside_python, find_program, is_ok, write_private

# unix(7): sun_path has 108 bytes, the last of which is the terminator.
_MAX_SOCKET_PATH = 107


class MariaDb(Program):
    """A MariaDB server with the database and the account `dist_test`, durable, on loopback.

    The account may do everything in databases whose names start with `dist_test`. The user who runs the server is
    root over `socket_path`.
    """

    name = "mariadb"
    port_names = ("mysql",)
    host = "127.0.0.1"
    user = "dist_test"
    database = "dist_test"

    def __init__(self, state_dir: Path, port: int | None = None, *, buffer_pool: str = "128M") -> None:
        """`buffer_pool`: memory for InnoDB's pages, as MariaDB writes sizes."""
        super().__init__(state_dir, _fixed(mysql=port))
        self.socket_path = state_dir / "mysql.sock"
        self._buffer_pool = buffer_pool

    @property
    def port(self) -> int:
        return self.ports["mysql"]

    @property
    def password(self) -> str:
        return _secret(self.state_dir / "password")

    @property
    def url(self) -> str:
        """The database's address for SQLAlchemy."""
        return f"mysql+pymysql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    def _prepare(self) -> None:
        length = len(os.fsencode(self.socket_path))
        if length > _MAX_SOCKET_PATH:
            raise LocalClusterError(
                f"the socket path {self.socket_path} has {length} bytes, {_MAX_SOCKET_PATH} are allowed;"
                " give a state directory with a shorter path"
            )
        (self.state_dir / "tmp").mkdir(exist_ok=True)
        if not self._data_dir.exists():
            self._install()
        self._write_accounts()

    @property
    def _data_dir(self) -> Path:
        return self.state_dir / "data"

    def _install(self) -> None:
        # Aside and renamed: an installation that was interrupted is done again, not used.
        unfinished = self.state_dir / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        command = [
            find_program("mariadb-install-db", "mariadb-server-core"),
            "--no-defaults",
            # Relative, as its script forgets to quote: a directory with a space in its path could not be installed in.
            f"--datadir=./{unfinished.name}",
            "--skip-test-db",
            "--skip-name-resolve",
            f"--auth-root-socket-user={_account()}",
            *_as_root(),
        ]
        done = subprocess.run(
            command, cwd=self.state_dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LocalClusterError(f"mariadb-install-db ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        unfinished.rename(self._data_dir)

    def _write_accounts(self) -> None:
        # Run by the server at each start, before it lets anyone in; one statement a line.
        # Both hosts, since MariaDB has an anonymous user at localhost that would win over one at '%'.
        lines = [f"CREATE DATABASE IF NOT EXISTS {self.database};"]
        for host in ("127.0.0.1", "localhost"):
            account = f"'{self.user}'@'{host}'"
            lines.append(f"CREATE OR REPLACE USER {account} IDENTIFIED BY '{self.password}';")
            lines.append(f"GRANT ALL ON `dist\\_test%`.* TO {account};")
        write_private(self._accounts_path, "\n".join(lines) + "\n")

    @property
    def _accounts_path(self) -> Path:
        return self.state_dir / "accounts.sql"

    def _command(self) -> Sequence[str]:
        return [
            find_program("mariadbd", "mariadb-server-core"),
            "--no-defaults",
            f"--datadir={self._data_dir}",
            f"--socket={self.socket_path}",
            f"--tmpdir={self.state_dir / 'tmp'}",
            f"--pid-file={self.state_dir / 'pid'}",
            f"--init-file={self._accounts_path}",
            f"--bind-address={self.host}",
            f"--port={self.port}",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=1",
            f"--innodb-buffer-pool-size={self._buffer_pool}",
            "--performance-schema=OFF",
            "--character-set-server=utf8mb4",
            "--default-time-zone=+00:00",
            "--max-connections=300",
            *_as_root(),
        ]

    def _answers(self) -> bool:
        # The greeting comes only after the accounts were made. Byte 5 is the protocol's version, 255 an error.
        return _first_bytes(self.port, b"", 5)[4:] == b"\x0a"


class Beanstalkd(Program):
    """A beanstalkd with a binlog: what was put comes back after `kill()` and `start()`."""

    name = "beanstalkd"
    port_names = ("beanstalk",)
    host = "127.0.0.1"

    def __init__(
        self, state_dir: Path, port: int | None = None, *, max_job_bytes: int = 2**20, fsync_milliseconds: int = 50
    ) -> None:
        """`max_job_bytes`: larger bodies are refused as too big. `fsync_milliseconds`: 0 syncs after each write."""
        super().__init__(state_dir, _fixed(beanstalk=port))
        self.max_job_bytes = max_job_bytes
        self._fsync_milliseconds = fsync_milliseconds

    @property
    def port(self) -> int:
        return self.ports["beanstalk"]

    @property
    def address(self) -> tuple[str, int]:
        return (self.host, self.port)

    def wipe(self) -> None:
        """Drop the binlog, as if its disk had been lost. The server must not be running."""
        if self.is_running:
            raise LocalClusterError("beanstalkd is running and would write its binlog again; stop() it before wipe()")
        shutil.rmtree(self._binlog_dir, ignore_errors=True)

    @property
    def _binlog_dir(self) -> Path:
        return self.state_dir / "binlog"

    def _prepare(self) -> None:
        self._binlog_dir.mkdir(exist_ok=True)

    def _command(self) -> Sequence[str]:
        return [
            find_program("beanstalkd", "beanstalkd"),
            *("-l", self.host),
            *("-p", str(self.port)),
            *("-b", str(self._binlog_dir)),
            *("-f", str(self._fsync_milliseconds)),
            *("-z", str(self.max_job_bytes)),
        ]

    def _answers(self) -> bool:
        return _first_bytes(self.port, b"stats\r\n", 2) == b"OK"


class SeaweedFs(Program):
    """An S3 server with one account, on loopback only: SeaweedFS's master, volume server, filer and S3 gateway."""

    name = "seaweedfs"
    port_names = ("s3", "s3_grpc", "master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc")
    region = "us-east-1"
    # At SIGTERM it closes its volumes within 0.1 s, and then waits 15 s for connections among its own parts.
    stop_limit = timedelta(seconds=2)

    def __init__(self, state_dir: Path, port: int | None = None) -> None:
        super().__init__(state_dir, _fixed(s3=port))

    @property
    def port(self) -> int:
        return self.ports["s3"]

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def access_key(self) -> str:
        return "dist_test"

    @property
    def secret_key(self) -> str:
        return _secret(self.state_dir / "secret_key")

    def _prepare(self) -> None:
        (self.state_dir / "data").mkdir(exist_ok=True)
        identity = {
            "name": "dist_test",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(self._identities_path, json.dumps({"identities": [identity]}))

    @property
    def _identities_path(self) -> Path:
        return self.state_dir / "identities.json"

    def _command(self) -> Sequence[str]:
        ports = self.ports
        return [
            beside_python("weed"),
            "-logtostderr=true",
            "server",
            f"-dir={self.state_dir / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={ports['master']}",
            f"-master.port.grpc={ports['master_grpc']}",
            "-master.telemetry=false",
            # No other master to wait for; without it, starting takes 3 to 14 s.
            "-master.peers=none",
            "-master.volumeSizeLimitMB=256",
            f"-volume.port={ports['volume']}",
            f"-volume.port.grpc={ports['volume_grpc']}",
            "-volume.max=0",
            "-volume.preStopSeconds=0",
            "-filer",
            f"-filer.port={ports['filer']}",
            f"-filer.port.grpc={ports['filer_grpc']}",
            f"-filer.localSocket={self.state_dir / 'filer.sock'}",
            "-s3",
            f"-s3.port={ports['s3']}",
            f"-s3.port.grpc={ports['s3_grpc']}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self._identities_path}",
            f"-s3.localSocket={self.state_dir / 's3.sock'}",
        ]

    def _answers(self) -> bool:
        # The gateway is up before there is a volume to write to; a file id is assigned only when there is one.
        return is_ok(self.port, "/healthz") and is_ok(self.ports["master"], "/dir/assign")

    def _clean_up(self) -> None:
        # The names of these sockets are built in, and a killed weed leaves them.
        for part in ("master", "volume", "filer", "s3"):
            Path(f"/tmp/seaweedfs-{part}-grpc-{self.ports.get(f'{part}_grpc')}.sock").unlink(missing_ok=True)


def _fixed(**ports: int | None) -> dict[str, int]:
    return {name: port for name, port in ports.items() if port is not None}


def _account() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _as_root() -> list[str]:
    # mariadbd refuses to run as root unless it is told so.
    return ["--user=root"] if os.geteuid() == 0 else []


def _secret(path: Path) -> str:
    """The secret kept in `path`; a new random one is made at the first call."""
    if not path.exists():
        write_private(path, secrets.token_hex(20))
    return path.read_text()


def _first_bytes(port: int, request: bytes, count: int) -> bytes:
    """The first bytes that a server on loopback answers; fewer, or none, when it does not."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection:
            connection.sendall(request)
            return connection.recv(count, socket.MSG_WAITALL)
    except OSError:
        return b""
