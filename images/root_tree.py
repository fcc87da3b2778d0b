"""The root tree that machines boot: a minimal Debian as a cloud would hand it out, made once and kept in a cache."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from images.commands import run
from images.registries import RegistryAccess

CACHE_DIR = Path(os.environ.get("TESTBED_CACHE", "/var/cache/dist_test/testbed"))
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3",
    "iproute2",
    "sudo",
    "ca-certificates",
    "apt-utils",
)
_UNUSED_SECONDS = 7 * 24 * 3600
OPERATOR = "ops"
# Users of the host share numbers with those of the machine that it runs on: a test there that kills all processes
# of "its" user would reach into the host.
OPERATOR_UID = 8700


@dataclass(frozen=True, kw_only=True)
class RootTree:
    """A recipe and, once `path` was asked for, what it makes."""

    suite: str = "bookworm"
    packages: tuple[str, ...] = PACKAGES
    access: RegistryAccess = field(default_factory=RegistryAccess.of_this_machine)
    cache_dir: Path = CACHE_DIR

    @property
    def fingerprint(self) -> str:
        """The same for the same recipe, whatever the day; delete the cache to get Debian's newest packages."""
        recipe = asdict(self) | {"access": asdict(self.access), "code": _digest(Path(__file__).read_bytes())}
        return _digest(json.dumps(recipe, sort_keys=True, default=str).encode())[:16]

    def ensure(self) -> Path:
        """Make the tree unless the cache has it; its directory, never to be written to. About 25 seconds."""
        path = self.cache_dir / f"base-{self.suite}-{self.fingerprint}"
        with locked(path):
            if not path.is_dir():
                self._make(path)
                remove_unused(path, self.cache_dir.glob("base-*"))
            os.utime(path)
        return path

    def _make(self, path: Path) -> None:
        tree = Path(tempfile.mkdtemp(prefix=f"{path.name}.", dir=self.cache_dir))
        try:
            self._bootstrap(tree)
            self._finish(tree)
            tree.chmod(0o755)
            tree.rename(path)
        finally:
            shutil.rmtree(tree, ignore_errors=True)

    def _bootstrap(self, tree: Path) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as apt:
            apt.write(self.access.apt)
            apt.flush()
            access = [f"--aptopt={apt.name}"] if self.access.apt else []
            include = f"--include={','.join(self.packages)}"
            run("mmdebstrap", "--quiet", "--variant=minbase", include, *access, self.suite, tree)

    def _finish(self, tree: Path) -> None:
        for name, text in self.access.certificates.items():
            (tree / "usr/local/share/ca-certificates" / name).write_text(text)
        run("chroot", tree, "update-ca-certificates")
        if self.access.pip:
            (tree / "etc/pip.conf").write_text(self.access.pip)
        _forget_this_machine(tree)
        _add_operator(tree)
        run("chroot", tree, "systemctl", "enable", "systemd-networkd.service")


def remove_unused(newest: Path, candidates: Iterable[Path]) -> None:
    """Remove trees that nobody asked for in a week, and that no machine stands on."""
    mounted = Path("/proc/mounts").read_text()
    for path in candidates:
        is_old = time.time() - path.stat().st_mtime > _UNUSED_SECONDS
        if path.is_dir() and path != newest and is_old and str(path) not in mounted:
            shutil.rmtree(path)


def _forget_this_machine(tree: Path) -> None:
    """mmdebstrap copies some of it; and what every machine must make for itself is none of the tree's."""
    (tree / "etc/hostname").unlink(missing_ok=True)
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    (tree / "etc/machine-id").write_text("")
    (tree / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()


def _add_operator(tree: Path) -> None:
    """The account that deployments use, as cloud images have one: a key, no password, all of sudo."""
    run("chroot", tree, "useradd", "--create-home", "--shell=/bin/bash", f"--uid={OPERATOR_UID}", OPERATOR)
    sudoers = tree / "etc/sudoers.d" / OPERATOR
    sudoers.write_text(f"{OPERATOR} ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock beside `path`, whose parent is made if need be: others may want the same tree right now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
