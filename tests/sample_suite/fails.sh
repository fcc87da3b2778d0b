#!/bin/sh
echo "expected 4 apples"
echo "found 3 apples" >&2
exit 3
