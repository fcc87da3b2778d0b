#!/bin/sh
# Passes when it has what the task asked for and a private place to write, and nothing of the cluster's.
set -eu
test "$COLOUR" = "green"
test -w "$TMPDIR"
test -w "$HOME"
test -n "$DIST_TEST_JOB_ID"
test -z "${DIST_TEST_CNF:-}"
