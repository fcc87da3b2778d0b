"""Claiming the users that tasks run as: needs root, who may add and become them."""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_test.errors import ConfigurationError
from dist_test.running.users import claim_user
from dist_test.running.work_dir import WorkDir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: adds users")
PREFIX = "dt-claim-test"


@pytest.fixture
def two_users() -> Iterator[None]:
    names = [f"{PREFIX}0", f"{PREFIX}1"]
    for name in names:
        subprocess.run(["useradd", "--system", "--no-create-home", name], check=True)
    yield
    for name in names:
        subprocess.run(["userdel", name], check=True)


@pytest.mark.usefixtures("two_users")
def test_two_slots_never_share_a_user(tmp_path: Path) -> None:
    with claim_user(prefix=PREFIX, lock_dir=tmp_path) as first, claim_user(prefix=PREFIX, lock_dir=tmp_path) as second:
        assert (first.name, second.name) == (f"{PREFIX}0", f"{PREFIX}1")
        assert first.uid == pwd.getpwnam(first.name).pw_uid != second.uid


@pytest.mark.usefixtures("two_users")
def test_a_released_user_can_be_claimed_again(tmp_path: Path) -> None:
    claim_user(prefix=PREFIX, lock_dir=tmp_path).release()
    with claim_user(prefix=PREFIX, lock_dir=tmp_path) as user:
        assert user.name == f"{PREFIX}0"


@pytest.mark.usefixtures("two_users")
def test_a_user_is_free_again_when_its_process_dies(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from dist_test.running.users import claim_user; "
        f"claimed = claim_user(prefix={PREFIX!r}, lock_dir=Path(sys.argv[1])); print(claimed.user.name); "
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-u", "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout == f"{PREFIX}0\n"
    with claim_user(prefix=PREFIX, lock_dir=tmp_path) as user:
        assert user.name == f"{PREFIX}0"


@pytest.mark.usefixtures("two_users")
def test_the_next_missing_user_is_named_with_the_way_to_add_it(tmp_path: Path) -> None:
    claimed = [claim_user(prefix=PREFIX, lock_dir=tmp_path) for _ in range(2)]
    with pytest.raises(ConfigurationError, match=rf"{PREFIX}2 is missing.* useradd .*{PREFIX}2"):
        claim_user(prefix=PREFIX, lock_dir=tmp_path)
    for claim in claimed:
        claim.release()


def test_a_missing_user_is_added_when_asked(tmp_path: Path) -> None:
    with claim_user(prefix=PREFIX, lock_dir=tmp_path, create=True) as user:
        assert pwd.getpwnam(user.name).pw_shell == "/usr/sbin/nologin"
    subprocess.run(["userdel", user.name], check=True)


def test_a_lock_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="only root can write"):
        claim_user(prefix=PREFIX, lock_dir=tmp_path)


@pytest.mark.usefixtures("two_users")
def test_a_slot_whose_user_is_another_after_a_restart_begins_empty(tmp_path: Path) -> None:
    with claim_user(prefix=PREFIX, lock_dir=tmp_path) as first, claim_user(prefix=PREFIX, lock_dir=tmp_path) as second:
        for user in (first, second):
            work_dir = WorkDir(tmp_path / "slot", user)
            work_dir.prepare()
            assert list(work_dir.attempt.iterdir()) == []
            assert work_dir.attempt.stat().st_uid == user.uid
            (work_dir.attempt / "tree").mkdir(mode=0o700)
            os.chown(work_dir.attempt / "tree", user.uid, user.gid)
            work_dir.release()
