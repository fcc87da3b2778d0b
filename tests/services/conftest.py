"""The real servers, each started once a session and only when a test asks for it."""

from collections.abc import Iterator

import pytest

from dist_test.local.daemons import Beanstalkd, MariaDb, SeaweedFs


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """A MariaDB that all tests share: make a database of your own, named `dist_test_...`, and drop it."""
    server = MariaDb(tmp_path_factory.mktemp("mariadb"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def beanstalkd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beanstalkd]:
    """A beanstalkd that all tests share: use a tube of your own."""
    server = Beanstalkd(tmp_path_factory.mktemp("beanstalkd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFs]:
    """An S3 server that all tests share: use a bucket of your own."""
    server = SeaweedFs(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.stop()
