#!/usr/bin/env bash
# Run the whole suite in two halves side by side, since either mostly waits: for hosts, browsers and disks, or for clocks.
# Only the second half runs tasks as users of this machine, where two clusters would end each other's.
#
#   tests/all.sh                 both
#   tests/all.sh -k queue        some tests, in one run of pytest with these arguments
set -u
cd "$(dirname "$0")/.."

if [ $# -gt 0 ]; then
    exec .venv/bin/pytest "$@"
fi

first="tests/testbed tests/browser tests/conformance tests/inventories tests/roles tests/unit tests/fuzz"
first="$first tests/services/autoscale tests/services/storage"

log=$(mktemp)
# With job control, as a job without it ignores SIGINT, and so would every program that its tests interrupt.
set -m
# shellcheck disable=SC2086  # words
.venv/bin/pytest $first --durations=25 >"$log" 2>&1 &
half=$!
# Hosts that are up are taken down by pytest when it is interrupted.
trap 'kill -INT $half 2>/dev/null; wait $half; rm -f "$log"; exit 130' INT TERM

# What is not in the first half, whatever it is.
# shellcheck disable=SC2046  # words
.venv/bin/pytest --durations=25 $(printf -- '--ignore=%s ' $first)
rest_status=$?
echo "The other half, which ran meanwhile:"
wait $half
half_status=$?
cat "$log"
rm -f "$log"
[ $rest_status -eq 0 ] && [ $half_status -eq 0 ]
