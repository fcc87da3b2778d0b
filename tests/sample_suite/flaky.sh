#!/bin/sh
# Fails at the first attempt and passes at the second.
if [ "$DIST_TEST_ATTEMPT" = 0 ]; then
    echo "the coin fell on the wrong side" >&2
    exit 1
fi
echo "the coin fell on the right side"
