#!/usr/bin/python3
"""prove ADDRESS: the autoscaler of this host decides or stands by for one that does; exit status 1 if it does not.

That it cannot read a group is no fault of this host, and said only: Compute Engine may be away, or a group not be made
yet. It changes nothing as long as that lasts.
"""

import http.client
import json
import subprocess
import sys
import time

_PROGRAM = "/usr/local/bin/dist-test-autoscale"
# A start, a round, and three intervals for whoever led before and died.
_START_SECONDS = 90
_ONLY_GROUPS = "cannot be read: groups"


class NotYet(Exception):
    """What is not as it should be."""


def main(arguments: list[str]) -> int:
    (address,) = arguments
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            readiness = _ready(address)
            sys.stdout.write(f"{_leader()}; this one: {readiness}\n")
            return 0
        except NotYet as exc:
            if time.monotonic() > deadline:
                sys.exit(f"the autoscaler: {exc}")
        time.sleep(1)


def _ready(address: str) -> str:
    status, words = _get(address, "/healthz")
    if status != 200:
        raise NotYet(f"/healthz at {address} is answered {status}: {words}")
    status, words = _get(address, "/readyz")
    if status != 200 and words != _ONLY_GROUPS:
        raise NotYet(f"/readyz at {address} is answered {status}: {words}")
    return words


def _get(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as exc:
        raise NotYet(f"{path} at {address} is not answered: {exc!r}") from exc
    finally:
        connection.close()


def _leader() -> str:
    done = subprocess.run([_PROGRAM, "status", "--json"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotYet(f"`{_PROGRAM} status` ended with {done.returncode}: {done.stderr.strip()}")
    status = json.loads(done.stdout)
    if not status["is_current"]:
        raise NotYet(f"nobody decides; the last one that led is {status['leader']}")
    return f"{status['leader']} leads"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
