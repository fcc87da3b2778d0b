"""The command line that runs a task in a container, with docker's program or podman's."""

import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dist_test.errors import RunError

TREE_MOUNT = "/isolate-dir"
HOME_MOUNT = "/isolate-home"
TMP_MOUNT = "/tmp"  # inside the container; private to the attempt
ENGINE_FAILED = 125  # docker-run(1), podman-run(1): the error is with the engine itself


@dataclass(frozen=True, kw_only=True)
class ContainerProgram:
    """How the operator wants containers run.

    program: the program and its global arguments, such as ("podman", "--runtime", "runc").
    container_args: more arguments of its `run`, such as limits or ("--network=none",).
    environment: added to the program's own environment (never to the task's), such as DOCKER_HOST.
    """

    program: tuple[str, ...]
    container_args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def run_argv(
    container: ContainerProgram,
    *,
    name: str,
    image: str,
    attempt_dir: str,
    cid_file: str,
    relative_cwd: str,
    uid: int,
    gid: int,
    env: Mapping[str, str],
    command: Sequence[str],
) -> list[str]:
    """The argv that runs `command` in a new container called `name`, as uid:gid, the attempt's tree as /isolate-dir.

    Raises RunError for an image that the engine's program would take for one of its options.
    """
    if image.startswith("-"):
        raise RunError(f"docker_image is {image!r}; an image's name cannot start with a dash")
    # By value on the command line: in the program's own environment, a task's LD_PRELOAD would be run as root.
    inside = {**env, "HOME": HOME_MOUNT, "TMPDIR": TMP_MOUNT}
    return [
        *container.program, "run", "--name", name, "--rm", "--cidfile", cid_file, *container.container_args,
        "-v", f"{attempt_dir}/tree:{TREE_MOUNT}", "-v", f"{attempt_dir}/home:{HOME_MOUNT}",
        "-v", f"{attempt_dir}/tmp:{TMP_MOUNT}", "-w", posixpath.normpath(f"{TREE_MOUNT}/{relative_cwd}"),
        "--user", f"{uid}:{gid}", *(part for pair in inside.items() for part in ("-e", "=".join(pair))),
        image, *command,
    ]  # fmt: skip


def remove_argv(container: ContainerProgram, name: str) -> list[str]:
    """The argv that kills and removes the container: killing the engine's program alone would leave it running."""
    return [*container.program, "rm", "-f", name]


def command_inside(command: Sequence[str], relative_cwd: str, paths: Collection[str]) -> list[str]:
    """The command with its first word absolute inside the container, by the same rule as outside of one.

    `paths` are the tree's files. A name without a slash that is not among them in the cwd is left to the image's PATH.
    """
    first = command[0]
    in_tree = posixpath.normpath(posixpath.join(relative_cwd, first))
    if not first.startswith("/") and ("/" in first or in_tree in paths):
        first = posixpath.normpath(f"{TREE_MOUNT}/{relative_cwd}/{first}")
    return [first, *command[1:]]
