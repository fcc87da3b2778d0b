#!/bin/sh
# Passes when the whole tree came along: the directory, the link in it, and the mode of this script.
set -eu
test -x passes.sh
test "$(cat data/greeting.txt)" = "hello"
test -L greeting-link.txt
cat greeting-link.txt
