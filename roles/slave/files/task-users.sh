#!/bin/sh
# task-users [--check] PREFIX FIRST COUNT: users PREFIX0, PREFIX1, ... with uids and gids FIRST, FIRST+1, ...
#
# Prints "unchanged", or "changed: " and what it did; with --check, would do. Removes nobody.
set -eu
check=
if [ "$1" = --check ]; then
    check=yes
    shift
fi
prefix=$1 first=$2 count=$3
missing=
slot=0
while [ "$slot" -lt "$count" ]; do
    name=$prefix$slot uid=$((first + slot)) slot=$((slot + 1))
    found=$(id -u "$name" 2>/dev/null || true)
    [ "$found" != "$uid" ] || continue
    if [ -n "$found" ]; then
        echo "task-users: $name has uid $found, not $uid; stop the slave and remove the user, or change its uid" >&2
        exit 1
    fi
    missing="$missing $name"
    [ -z "$check" ] || continue
    getent group "$name" >/dev/null || groupadd --system --gid "$uid" "$name"
    useradd --system --uid "$uid" --gid "$uid" --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin "$name"
done
if [ -n "$missing" ]; then
    echo "changed: added$missing"
else
    echo unchanged
fi
