"""Machines that boot a root tree under systemd-nspawn: hosts to deploy on, in seconds and without a cloud.

The tree stays as it is: each machine has an overlay of its own on it. A machine outlives the program that started
it, and any program that knows its directory can go on with it.
"""

import os
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from images.commands import MachineError, run, succeeds
from images.control_group import ControlGroup
from images.network import Network
from images.root_tree import OPERATOR, OPERATOR_UID, RootTree

_SSH_SECONDS = 60  # 2 on an idle machine with 2 cores; five hosts that boot beside a busy test take 10
_POLL_SECONDS = 0.1
_NEEDS = ("mmdebstrap", "systemd-nspawn", "nft", "ip", "ssh", "ssh-keygen")

_START = """
    groups=$1 console=$2; shift 2
    for group in $groups; do echo $$ >"$group"; done
    "$@" >>"$console" 2>&1 </dev/null &
    echo $!
"""


def why_not() -> str | None:
    """What keeps this computer from running machines, in a sentence; None when nothing does."""
    if os.geteuid() != 0:
        return "machines need root: namespaces, mounts and a bridge"
    if missing := [program for program in _NEEDS if not shutil.which(program)]:
        return f"machines need {', '.join(missing)}: run ./bootstrap.sh deploy"
    attempts = {
        "network namespaces and bridges": "ip link add probe type bridge",
        "overlay mounts": "d=$(mktemp -d -p /var/tmp); trap 'rm -r $d' EXIT; cd $d; mkdir lower upper work merged; "
        "mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged; umount merged",
        "pid namespaces": "unshare --pid --fork true",
    }
    denied = [what for what, script in attempts.items() if not _works_unshared(script)]
    return f"this computer does not allow {', '.join(denied)}" if denied else None


def _works_unshared(script: str) -> bool:
    return succeeds(["unshare", "--mount", "--net", "sh", "-ec", script])


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`directory` holds its disk, console.log and host key; `key` is the private key whose owner may log in as ops.

    `address` is in `network`. `layers` are directories under the machine's own disk and above the tree's.
    """

    name: str
    address: IPv4Address
    directory: Path
    network: Network
    tree: RootTree
    key: Path
    layers: tuple[Path, ...] = ()

    @property
    def root(self) -> Path:
        """Its file system as this computer sees it, while the machine is on or was powered off."""
        return self.directory / "root"

    @property
    def disk(self) -> Path:
        """The part of its file system that is its own: what was written since the disk was fresh."""
        return self.directory / "disk"

    @property
    def console_path(self) -> Path:
        return self.directory / "console.log"

    @property
    def host_key(self) -> str:
        """The public half, made on first use and kept over replacements. "ssh-ed25519 AAAA…"."""
        path = self.directory / "host_key"
        if not path.exists():
            make_key(path)
        return " ".join(path.with_suffix(".pub").read_text().split()[:2])

    @property
    def is_on(self) -> bool:
        return self._nspawn() is not None

    def start(self) -> None:
        """Power it on, with a fresh disk if it has none, and return before it has booted."""
        if self.is_on:
            return
        self._remove_link()
        if not self.disk.exists():
            self._make_disk()
        self._mount()
        # By way of a shell that ends at once, so that the machine is nobody's child: it outlives us.
        groups = "" if _systemd_runs() else " ".join(map(str, self._control_group.make()))
        shell = ("setsid", "--wait", "sh", "-ec", _START, "-")
        self._pid_path.write_text(run(*shell, groups, self.console_path, *self._nspawn_command()))

    def wait_for_ssh(self) -> None:
        """Raises MachineError when nobody can log in after a minute."""
        deadline = time.monotonic() + _SSH_SECONDS
        while not succeeds(self.ssh_command(["true"])):
            if time.monotonic() > deadline or not self.is_on:
                raise MachineError(f"{self.name} does not answer at {self.address}; see {self.console_path}")
            time.sleep(_POLL_SECONDS)

    def ssh_command(self, command: Sequence[str]) -> list[str]:
        """How to run a shell command, given in words, on it as ops."""
        return ["ssh", *self.ssh_options, f"{OPERATOR}@{self.address}", "--", *command]

    @property
    def ssh_options(self) -> list[str]:
        known_hosts = self.directory / "known_hosts"
        options = ("BatchMode=yes", "ConnectTimeout=2", "LogLevel=ERROR", f"UserKnownHostsFile={known_hosts}")
        return ["-F", "none", "-i", str(self.key), *(f"-o{option}" for option in options)]

    def ssh(self, command: str) -> str:
        """Run a shell command as ops; its standard output. Raises MachineError when it fails."""
        return run(*self.ssh_command([command]))

    def power_off(self) -> None:
        """Kill it, as if someone had pulled the plug; its disk stays. What it wrote without fsync survives this."""
        # First of all, or its dying programs would take leave of their peers, which then learn of it at once.
        self._remove_link()
        nspawn = self._nspawn()
        if nspawn is not None:
            # Killing nspawn alone would orphan what runs in the machine, and keep its network interface.
            for child in _children(nspawn):
                _kill(child)
            _wait_for_end(nspawn, self.name)
        self._pid_path.unlink(missing_ok=True)
        self._control_group.delete()

    def reboot(self) -> None:
        """Pull the plug and start again."""
        self.power_off()
        self.start()

    def replace(self) -> None:
        """Start a fresh machine of the same name, address and host key: what was on the disk is lost."""
        self.delete()
        self.start()

    def delete(self) -> None:
        """Power it off and remove its disk; the host key stays."""
        self.power_off()
        if self.root.is_mount():
            run("umount", self.root)
        for path in (self.root, self.disk, self._work):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.console_path, self.directory / "lower"):
            path.unlink(missing_ok=True)

    @property
    def _work(self) -> Path:
        return self.directory / "work"

    @property
    def _pid_path(self) -> Path:
        return self.directory / "pid"

    @property
    def _id(self) -> str:
        """Unique on this computer, and short: nspawn names an interface after it."""
        return f"{int(self.address):08x}"

    @property
    def _control_group(self) -> ControlGroup:
        return ControlGroup(name=f"machine-{self._id}")

    def _nspawn(self) -> int | None:
        """The pid of its nspawn; that of a file may meanwhile be another program's."""
        try:
            pid = int(self._pid_path.read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if f"--machine={self._id}".encode() in arguments else None

    def _nspawn_command(self) -> list[str]:
        # Where systemd runs, nspawn asks it for a scope; elsewhere there is nobody to ask.
        unit = [] if _systemd_runs() else ["--keep-unit"]
        options = ["--register=no", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe"]
        identity = [f"--machine={self._id}", f"--hostname={self.name}", f"--network-bridge={self.network.bridge}"]
        return ["systemd-nspawn", "--quiet", "--boot", f"--directory={self.root}", *identity, *options, *unit]

    def _make_disk(self) -> None:
        self.disk.mkdir(parents=True)
        self._mount()
        self._write("etc/hostname", f"{self.name}\n")
        self._write("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n::1 localhost\n")
        self._write("etc/resolv.conf", Path("/etc/resolv.conf").read_text())
        self._write("etc/systemd/network/10-host0.network", self._network_configuration())
        self._install_keys()

    def _install_keys(self) -> None:
        (self.directory / "known_hosts").write_text(f"{self.address} {self.host_key}\n")
        shutil.copy2(self.directory / "host_key", self.root / "etc/ssh/ssh_host_ed25519_key")
        shutil.copy2(self.directory / "host_key.pub", self.root / "etc/ssh/ssh_host_ed25519_key.pub")
        home = self.root / "home" / OPERATOR
        self._write(f"home/{OPERATOR}/.ssh/authorized_keys", self.key.with_suffix(".pub").read_text())
        for path in (home / ".ssh", home / ".ssh/authorized_keys"):
            os.chown(path, OPERATOR_UID, OPERATOR_UID)
        (home / ".ssh").chmod(0o700)

    def _network_configuration(self) -> str:
        address = f"Address={self.address}/24\nGateway={self.network.gateway}\n"
        return f"[Match]\nName=host0\n\n[Network]\n{address}DHCP=no\nLinkLocalAddressing=no\n"

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _mount(self) -> None:
        if self.root.is_mount():
            return
        self.root.mkdir(parents=True, exist_ok=True)
        self._work.mkdir(exist_ok=True)
        options = f"lowerdir={self._lower()},upperdir={self.disk},workdir={self._work}"
        run("mount", "-t", "overlay", "-o", options, "overlay", self.root)

    def _lower(self) -> str:
        """What the disk lies on. Its own until it is deleted, even when the recipe of the tree changes meanwhile."""
        path = self.directory / "lower"
        if not path.exists():
            path.write_text(":".join(str(layer) for layer in (*self.layers, self.tree.ensure())))
        return path.read_text()

    def _remove_link(self) -> None:
        succeeds(["ip", "link", "delete", f"vb-{self._id}"])


def make_key(path: Path) -> None:
    """Make an SSH key pair without a passphrase: PATH and PATH.pub."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path)


def _systemd_runs() -> bool:
    return Path("/run/systemd/system").is_dir()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _wait_for_end(pid: int, name: str) -> None:
    deadline = time.monotonic() + 20
    while _is_running(pid):
        if time.monotonic() > deadline:
            raise MachineError(f"{name} does not end: its nspawn, process {pid}, is still there")
        time.sleep(_POLL_SECONDS)


def _is_running(pid: int) -> bool:
    """A zombie is not: it waits for a parent that started the machine, which may be this program."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
