"""The real servers, each started once a session and only when a test asks for it."""

import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text

from dist_test.local.daemons import Beanstalkd, MariaDb, SeaweedFs
from dist_test.settings import BeanstalkSettings, MysqlSettings
from dist_test.storage import schema
from dist_test.storage.database import Database
from dist_test.storage.migrate import migrate
from dist_test.storage.queue import Queue, Queues

from ..accounts import grant_all, make_accounts


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


@pytest.fixture(scope="session")
def migrated_database(mariadb: MariaDb) -> Iterator[Database]:
    """A database with the schema, shared by the session: use `database`, which empties it."""
    settings = mysql_settings(mariadb, "dist_test_session")
    create_database(mariadb, settings.database)
    database = Database(settings)
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def database(migrated_database: Database) -> Database:
    """A database with the schema and no rows."""
    empty_tables(migrated_database)
    return migrated_database


@pytest.fixture(scope="session")
def accounts(mariadb: MariaDb, migrated_database: Database) -> Mapping[str, MysqlSettings]:
    """Logins to the session's database: its owner, and the programs with their rights."""
    settings = make_accounts(mariadb, migrated_database.settings.database)
    grant_all(settings)
    return settings


@pytest.fixture
def master_database(accounts: Mapping[str, MysqlSettings], database: Database) -> Iterator[Database]:
    """The database with a master's rights."""
    restricted = Database(accounts["master"])
    yield restricted
    restricted.close()


@pytest.fixture
def slave_database(accounts: Mapping[str, MysqlSettings], database: Database) -> Iterator[Database]:
    """The database with a slave's rights."""
    restricted = Database(accounts["slave"])
    yield restricted
    restricted.close()


@pytest.fixture
def beanstalk_settings(beanstalkd: Beanstalkd) -> BeanstalkSettings:
    """A tube of the test's own, with a time to run of two seconds."""
    tube = f"test-{uuid.uuid4().hex}"
    return BeanstalkSettings(host=beanstalkd.host, port=beanstalkd.port, tube=tube, time_to_run=timedelta(seconds=2))


@pytest.fixture
def queue(beanstalk_settings: BeanstalkSettings) -> Iterator[Queue]:
    """A connection to the test's own tube."""
    queue = Queue(beanstalk_settings)
    yield queue
    queue.close()


@pytest.fixture
def queues(beanstalk_settings: BeanstalkSettings) -> Iterator[Queues]:
    """The connections of a master."""
    queues = Queues(beanstalk_settings)
    yield queues
    queues.close()


def empty_tables(database: Database) -> None:
    """Remove every row: as after the first migration."""
    with database.engine.begin() as connection:
        for table in schema.metadata.tables.values():
            if table is not schema.schema_revisions:
                connection.execute(table.delete())
        connection.execute(schema.busy_period.insert().values(id=1, period=1))


def mysql_settings(mariadb: MariaDb, name: str) -> MysqlSettings:
    """Settings for a database of its own on the session's server."""
    return MysqlSettings(
        host=mariadb.host, port=mariadb.port, user=mariadb.user, password=mariadb.password, database=name
    )


def create_database(mariadb: MariaDb, name: str) -> None:
    """Make a database, dropping an earlier one."""
    engine = create_engine(mariadb.url)
    with engine.begin() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
