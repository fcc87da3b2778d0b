#!/usr/bin/python3
"""Passes, and leaves daemons behind that ignore SIGTERM, have their own session and hold no pipe of ours."""

import os
import signal
import sys
import time
from pathlib import Path

MARK = "dist_test-sample-daemon"  # expected.json has it: no process with this argument may be left
HERE = Path(__file__).resolve()


def daemonize(number: int) -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            os.closerange(0, 3)
            os.execv(sys.executable, [sys.executable, str(HERE), MARK, str(number)])
        os._exit(0)
    os.wait()


def be_a_daemon(number: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    HERE.with_name(f"up.{number}").touch()
    time.sleep(600)


if MARK in sys.argv:
    be_a_daemon(sys.argv[-1])
else:
    for number in range(3):
        daemonize(number)
    while len(list(HERE.parent.glob("up.*"))) < 3:
        time.sleep(0.02)
