#!/bin/sh
# Load the firewall again when it is not there although it should be: `firewall [--check] on|off`.
# Prints "changed: why" or "unchanged". The unit cannot tell that somebody emptied the rule set.
set -eu
check=
if [ "$1" = --check ]; then
    check=yes
    shift
fi
if [ "$1" = off ] || /usr/sbin/nft list chain inet dist_test input >/dev/null 2>&1; then
    echo unchanged
    exit 0
fi
[ "$check" ] || systemctl restart dist-test-firewall.service
echo "changed: loaded the table that was not there"
