#!/usr/bin/python3
"""buckets [--check] WEED BUCKET...: make the buckets that are missing; says `unchanged`, or what changed."""

# ruff: noqa: T201  # a program: what it prints is its answer

import subprocess
import sys
import time

_START_SECONDS = 60  # a store with many volumes reads their indexes first


def main(arguments: list[str]) -> int:
    is_check = arguments[:1] == ["--check"]
    weed, *wanted = arguments[1:] if is_check else arguments
    patience = 0 if is_check else _START_SECONDS
    there = _buckets(weed, patience)
    missing = [bucket for bucket in wanted if bucket not in there]
    for bucket in missing if not is_check else []:
        _shell(weed, f"s3.bucket.create -name {bucket}", patience)
    print(f"changed: no bucket {', '.join(missing)}" if missing else "unchanged")
    return 0


def _buckets(weed: str, patience: int) -> set[str]:
    # A line each: the name, then a tab and figures.
    return {line.split()[0] for line in _shell(weed, "s3.bucket.list", patience).splitlines() if "size:" in line}


def _shell(weed: str, command: str, patience: int) -> str:
    """What SeaweedFS's shell prints. Tries for `patience` seconds, until the store has started."""
    shell = [weed, "-logtostderr=true", "shell", "-master=127.0.0.1:9333", "-filer=127.0.0.1:8888"]
    deadline = time.monotonic() + patience
    while True:
        try:
            # The store's parts are in a network of its own.
            return _run(["nsenter", "--target", _main_pid(), "--net", *shell], command)
        except subprocess.CalledProcessError as exc:
            problem = f"{exc.stdout}{exc.stderr}"
        except subprocess.TimeoutExpired as exc:
            problem = str(exc)
        if time.monotonic() > deadline:
            sys.exit(f"weed shell cannot {command!r}: {problem}")
        time.sleep(1)


def _main_pid() -> str:
    return _run(["systemctl", "show", "--property=MainPID", "--value", "dist-test-object-store.service"]).strip()


def _run(words: list[str], text: str = "") -> str:
    return subprocess.run(words, input=text, capture_output=True, text=True, timeout=20, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
