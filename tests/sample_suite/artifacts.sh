#!/bin/sh
set -eu
mkdir -p reports/deep/er
echo '<testsuite tests="1"/>' > reports/result.xml
echo '<testsuite tests="2"/>' > reports/deep/er/result.xml
echo "not asked for" > reports/scratch.bin
