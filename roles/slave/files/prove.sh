#!/bin/sh
# slave-prove SETTINGS PREFIX: the slave takes tasks, and none of them could read its settings.
set -eu
settings=$1 prefix=$2
DIST_TEST_CNF=$settings /opt/dist_test/current/bin/dist-test-slave check --wait 60
for file in /etc/dist_test/slave.cnf "$settings"; do
    if setpriv --reuid="${prefix}0" --regid="${prefix}0" --clear-groups cat "$file" >/dev/null 2>&1; then
        echo "slave-prove: tasks could read $file" >&2
        exit 1
    fi
done
