#!/usr/bin/python3
"""Writes more than a slave keeps of one stream, and fails so that it is kept."""

import sys

print("the first line")
line = "x" * 1023 + "\n"
for _ in range(24 * 1024):
    sys.stdout.write(line)
print("the last line")
sys.exit(1)
