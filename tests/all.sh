#!/bin/sh
# Run the whole suite in two halves side by side: on hosts under systemd-nspawn (tests/testbed), and the rest. The first
# mostly waits for the other hosts, the second for clocks; one after the other they take half as long again.
#
#   tests/all.sh                 both
#   tests/all.sh -k queue        some tests, in one run of pytest with these arguments
set -u
cd "$(dirname "$0")/.."

if [ $# -gt 0 ]; then
    exec .venv/bin/pytest "$@"
fi

log=$(mktemp)
.venv/bin/pytest tests/testbed --durations=10 >"$log" 2>&1 &
hosts=$!
# Hosts that are up are taken down by pytest when it is interrupted.
trap 'kill -INT $hosts 2>/dev/null; wait $hosts; rm -f "$log"; exit 130' INT TERM

.venv/bin/pytest --ignore=tests/testbed --durations=25
rest=$?
echo "The half on hosts:"
wait $hosts
hosts_status=$?
cat "$log"
rm -f "$log"
[ $rest -eq 0 ] && [ $hosts_status -eq 0 ]
