"""What an operator or a developer can set: the INI file, then the environment, one frozen record a program."""

from dist_test.settings.records import (
    AwsSettings,
    BeanstalkSettings,
    ClientSettings,
    IsolateSettings,
    MasterSettings,
    MysqlSettings,
    SlaveSettings,
    load_beanstalk_settings,
    load_client_settings,
    load_isolate_settings,
    load_master_settings,
    load_mysql_settings,
    load_slave_settings,
)
from dist_test.settings.source import configuration_path, parse_ini

__all__ = [
    "AwsSettings",
    "BeanstalkSettings",
    "ClientSettings",
    "IsolateSettings",
    "MasterSettings",
    "MysqlSettings",
    "SlaveSettings",
    "configuration_path",
    "load_beanstalk_settings",
    "load_client_settings",
    "load_isolate_settings",
    "load_master_settings",
    "load_mysql_settings",
    "load_slave_settings",
    "parse_ini",
]
