"""Which tests are too slow for `make test`: `make testbed-full` sets TESTBED_FULL=1 and runs them as well."""

import os

import pytest

full_only = pytest.mark.skipif(
    not os.environ.get("TESTBED_FULL"), reason="takes minutes; `make testbed-full`, or TESTBED_FULL=1, runs it"
)
