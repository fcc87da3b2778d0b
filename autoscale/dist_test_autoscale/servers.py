"""How to reach the database and beanstalkd: from the autoscaler's file, or where it is silent from the common one."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from dist_test.errors import ConfigurationError
from dist_test.settings import BeanstalkSettings, MysqlSettings, load_beanstalk_settings, load_mysql_settings
from dist_test_autoscale.settings import Settings


def mysql_settings(settings: Settings, environ: Mapping[str, str] | None = None) -> MysqlSettings:
    """The database's. Raises ConfigurationError."""
    own = settings.mysql
    if own is None:
        return load_mysql_settings(environ)
    password = _secret(Path(own.password_file))
    return MysqlSettings(host=own.host, port=own.port, user=own.user, password=password, database=own.db)


def beanstalk_settings(settings: Settings, environ: Mapping[str, str] | None = None) -> BeanstalkSettings:
    """beanstalkd's. Raises ConfigurationError."""
    own = settings.queue
    if own is None:
        return load_beanstalk_settings(environ)
    # Nothing is put or reserved, so no time to run is ever asked for.
    return BeanstalkSettings(host=own.host, port=own.port, tube=own.tube, time_to_run=timedelta(seconds=60))


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"autoscale.mysql.password_file: {path} cannot be read: {exc}") from exc
