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
    missing = [bucket for bucket in wanted if bucket not in _buckets(weed)]
    for bucket in missing if not is_check else []:
        _shell(weed, f"s3.bucket.create -name {bucket}")
    print(f"changed: no bucket {', '.join(missing)}" if missing else "unchanged")
    return 0


def _buckets(weed: str) -> set[str]:
    # A line each: the name, then a tab and figures.
    return {line.split()[0] for line in _shell(weed, "s3.bucket.list").splitlines() if "size:" in line}


def _shell(weed: str, command: str) -> str:
    """What SeaweedFS's shell prints. Tries until the store has started."""
    words = [weed, "shell", "-master=127.0.0.1:9333", "-filer=127.0.0.1:8888"]
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return subprocess.run(words, input=command, capture_output=True, text=True, timeout=20, check=True).stdout
        except subprocess.CalledProcessError as exc:
            problem = f"{exc.stdout}{exc.stderr}"
        except subprocess.TimeoutExpired as exc:
            problem = str(exc)
        if time.monotonic() > deadline:
            sys.exit(f"weed shell cannot {command!r}: {problem}")
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
