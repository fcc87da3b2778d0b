"""Checkouts of other releases than this one, to upgrade to and to come back from."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.deployments import REPOSITORY, ansible_changes, environment_for, program, pyinfra_changes

_TIMEOUT_SECONDS = 1800
_VERSIONS = Path("app/dist_test/storage/migrations/versions")
_MIGRATION = '''"""Add what the programs of the release before never look at."""

from alembic import op

from dist_test.storage.migrations.serving import serve

revision = "9999"
down_revision = "{last}"


def upgrade() -> None:
    op.execute("ALTER TABLE jobs ADD COLUMN IF NOT EXISTS mood VARCHAR(32) NULL")
    serve(revision, since="{last}")


def downgrade() -> None:
    op.execute("ALTER TABLE jobs DROP COLUMN IF EXISTS mood")
'''


@dataclass(frozen=True, kw_only=True)
class Run:
    """A tool at its end: its exit status, what it printed, and that with its errors."""

    status: int
    printed: str
    said: str


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A directory as an operator has it, with inventories/testbed in it."""

    path: Path

    @classmethod
    def of_last_release(cls, path: Path) -> "Checkout":
        """The last tag; while there is none, the last commit."""
        described = _git("describe", "--tags", "--abbrev=0")
        ref = described.stdout.decode().strip() if described.returncode == 0 else "HEAD"
        path.mkdir()
        subprocess.run(["tar", "--extract", "--directory", path], input=_git("archive", ref).stdout, check=True)
        return cls(path=path)

    @classmethod
    def of_now(cls, path: Path) -> "Checkout":
        """What lies here, changed files too."""
        listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.decode()
        for name in filter(None, listed.split("\0")):
            if (source := REPOSITORY / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, path / name)
        return cls(path=path)

    def raise_version(self, version: str) -> None:
        """Call the release by another version."""
        self._replace("pyproject.toml", r'(?m)^version = ".*"$', f'version = "{version}"')
        self._replace("app/dist_test/__init__.py", r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"')

    def add_migration(self) -> None:
        """One more, which adds a column that may be NULL."""
        last = sorted((self.path / _VERSIONS).glob("[0-9]*.py"))[-1].name.partition("_")[0]
        (self.path / _VERSIONS / "9999_mood.py").write_text(_MIGRATION.format(last=last))
        self._replace("app/dist_test/storage/schema.py", r'(?m)^(REVISION = )".*"', r'\1"9999"')

    def break_slave(self) -> None:
        """Let the slave of this release end when it starts."""
        self._replace("app/dist_test/slave/command.py", r"(?m)^(def main\(.*$)", r'raise SystemExit("broken")\n\n\n\1')

    def deploy(self, tool: str) -> Sequence[str]:
        """Run the site; what it changed. `tool`: ansible or pyinfra."""
        if tool == "ansible":
            return ansible_changes(self._succeed(self._ansible("site")))
        return pyinfra_changes(
            self._succeed([program("pyinfra"), "-y", "--json", "inventories/testbed.py", "deploy.py"])
        )

    def upgrade(self, tool: str) -> Run:
        """Upgrade with one slave at a time. `tool`: ansible or pyinfra."""
        module = [sys.executable, "-m", "inventories.upgrade", "--batch", "1", "testbed"]
        return self._run([*self._ansible("upgrade"), "-e", "upgrade_batch=1"] if tool == "ansible" else module)

    def play(self, name: str, *arguments: str) -> str:
        """Run one of playbooks/ with Ansible, to a good end."""
        return self._succeed([*self._ansible(name), *arguments])

    def operate(self, name: str, *arguments: str) -> str:
        """Run one of playbooks/ with pyinfra, to a good end."""
        return self._succeed([sys.executable, "-m", "inventories.operation", *arguments, name, "testbed"])

    def _ansible(self, playbook: str) -> list[str]:
        return [program("ansible-playbook"), "-i", "inventories/testbed/hosts.yml", f"playbooks/{playbook}.yml"]

    def _succeed(self, command: Sequence[str]) -> str:
        done = self._run(command)
        assert done.status == 0, done.said
        return done.printed

    def _run(self, command: Sequence[str]) -> Run:
        done = subprocess.run(
            command,
            cwd=self.path,
            env=environment_for("testbed") | {"PYTHONPATH": str(self.path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        return Run(status=done.returncode, printed=done.stdout, said=f"{done.stdout}\n{done.stderr}")

    def _replace(self, name: str, pattern: str, replacement: str) -> None:
        path = self.path / name
        text, count = re.subn(pattern, replacement, path.read_text())
        assert count == 1, f"{name} has {count} places like {pattern}"
        path.write_text(text)


def _git(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, check=False)
