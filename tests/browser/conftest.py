"""A real browser before a real master whose database has what pages are for. The session shares it: only read it."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from dist_test.local.daemons import Beanstalkd, MariaDb, SeaweedFs
from dist_test.settings import BeanstalkSettings, MysqlSettings, load_master_settings
from dist_test.storage.database import Database
from dist_test.storage.migrate import migrate
from dist_test.storage.results import Bucket

from ..accounts import grant_all, make_accounts
from ..services.conftest import beanstalkd, create_database, mariadb, mysql_settings, seaweedfs
from ..services.master.conftest import Master, master_environ
from . import world

__all__ = ["beanstalkd", "mariadb", "seaweedfs"]

CHROMIUM = "/usr/bin/chromium"
BUCKET = "dist-test-browser-tests"
TIME_TO_RUN = timedelta(minutes=2)
WIDTHS = {"phone": 390, "tablet": 820, "desktop": 1400}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        # Root may not use Chromium's sandbox; the pages are ours.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def browser_database(mariadb: MariaDb) -> Iterator[Database]:
    """The database of the browser's master, with its owner's rights: `world` fills it."""
    settings = mysql_settings(mariadb, "dist_test_browser")
    create_database(mariadb, settings.database)
    database = Database(settings)
    migrate(database)
    yield database
    database.close()


@pytest.fixture(scope="session")
def browser_accounts(mariadb: MariaDb, browser_database: Database) -> Mapping[str, MysqlSettings]:
    """Logins of the programs to the browser's database."""
    settings = make_accounts(mariadb, browser_database.settings.database)
    grant_all(settings)
    return settings


@pytest.fixture(scope="session")
def environ(
    browser_accounts: Mapping[str, MysqlSettings], beanstalkd: Beanstalkd, seaweedfs: SeaweedFs
) -> dict[str, str]:
    """The environment of a master that lets loopback, where the browser is, change things."""
    beanstalk = BeanstalkSettings(host=beanstalkd.host, port=beanstalkd.port, tube="browser", time_to_run=TIME_TO_RUN)
    # The rows are made by hand: nobody shall mend them.
    unmended = {"DIST_TEST_MASTER_RECONCILE_SECONDS": "3600"}
    return master_environ(browser_accounts["master"], beanstalk, seaweedfs, bucket=BUCKET) | unmended


@pytest.fixture(scope="session")
def bucket(environ: dict[str, str]) -> Bucket:
    """The bucket of the browser's master."""
    bucket = Bucket.of(load_master_settings(environ).aws)
    bucket.ensure_exists()
    return bucket


@pytest.fixture(scope="session")
def master(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str], browser_database: Database, bucket: Bucket
) -> Iterator[Master]:
    """The served master, with the jobs of `world`."""
    world.fill(browser_database, bucket)
    master = Master(tmp_path_factory.mktemp("browser-master"), environ)
    master.start()
    yield master
    master.stop()


@pytest.fixture
def page(browser: Browser, master: Master) -> Iterator[Page]:
    """A page at the master's address, 1400 pixels wide. The test fails on any error in the browser's console."""
    context = browser.new_context(base_url=master.url, viewport={"width": WIDTHS["desktop"], "height": 900})
    page = context.new_page()
    troubles: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            troubles.append(f"{message.type}: {message.text}")

    page.on("console", note)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    yield page
    context.close()
    assert troubles == []


OpenPage = Callable[[str, str], Page]


@pytest.fixture
def open_page(browser: Browser, master: Master) -> Iterator[OpenPage]:
    """Open pages of one of WIDTHS and in `light` or `dark` colours."""
    with ExitStack() as stack:

        def open_one(width: str, scheme: str) -> Page:
            context = browser.new_context(
                base_url=master.url,
                viewport={"width": WIDTHS[width], "height": 900},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            stack.callback(context.close)
            return context.new_page()

        yield open_one


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of pages go: SCREENSHOTS when it is set, for whoever wants to look at them."""
    chosen = os.environ.get("SCREENSHOTS")
    directory = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory
