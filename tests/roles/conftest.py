"""Fixtures of the tests of what both tools share."""

from pathlib import Path

import pytest

from tests.roles.checkout import Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout.write(tmp_path)
