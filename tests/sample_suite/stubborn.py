#!/usr/bin/python3
"""Ignores SIGTERM, has a child that does so too, and never ends by itself."""

import os
import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
print("you shall not stop me", flush=True)
while True:
    time.sleep(600)
