"""Fixtures for every kind of test."""

import pytest

from dist_test.local.ports import free_port as choose_free_port


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens on."""
    return choose_free_port()
