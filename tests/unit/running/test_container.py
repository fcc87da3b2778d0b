"""The command line for containers."""

import pytest

from dist_test.errors import RunError
from dist_test.running.container import ContainerProgram, command_inside, remove_argv, run_argv

PODMAN = ContainerProgram(program=("podman", "--runtime", "runc"), container_args=("--network=none",))


def argv(*, image: str = "localhost/image:1", env: dict[str, str] | None = None) -> list[str]:
    return run_argv(
        PODMAN,
        name="n",
        image=image,
        attempt_dir="/w/t",
        cid_file="/w/r/1.cid",
        relative_cwd="build/isolate",
        uid=1001,
        gid=1002,
        env=env or {},
        command=["/isolate-dir/run", "-x"],
    )


def test_the_tree_is_mounted_and_the_command_runs_as_the_task_user() -> None:
    assert argv(env={"A": "b=c"}) == [
        *("podman", "--runtime", "runc", "run", "--name", "n", "--rm", "--cidfile", "/w/r/1.cid", "--network=none"),
        *("-v", "/w/t/tree:/isolate-dir", "-v", "/w/t/home:/isolate-home", "-v", "/w/t/tmp:/tmp"),
        *("-w", "/isolate-dir/build/isolate", "--user", "1001:1002"),
        *("-e", "A=b=c", "-e", "HOME=/isolate-home", "-e", "TMPDIR=/tmp"),
        *("localhost/image:1", "/isolate-dir/run", "-x"),
    ]


def test_an_image_that_would_be_taken_for_an_option_is_refused() -> None:
    with pytest.raises(RunError, match="--privileged"):
        argv(image="--privileged")


def test_removing_the_container_ends_it() -> None:
    assert remove_argv(PODMAN, "n") == ["podman", "--runtime", "runc", "rm", "-f", "n"]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("../run.sh", "/isolate-dir/build/run.sh"),
        ("run.sh", "/isolate-dir/build/isolate/run.sh"),
        ("sh", "sh"),
        ("/bin/sh", "/bin/sh"),
    ],
)
def test_the_command_is_made_absolute_as_outside_of_a_container(first: str, expected: str) -> None:
    assert command_inside([first, "-x"], "build/isolate", {"build/isolate/run.sh"}) == [expected, "-x"]
