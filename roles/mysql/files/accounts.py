#!/usr/bin/python3
"""Give MariaDB the database and the accounts of a file: `mysql-accounts [--check|--prove HOST:PORT] FILE`.

Compares the file with what the server really has, and mends the differences: the database, each account's password and
rights, accounts of the same names for other hosts, accounts without a name. The owner may do everything in the
database, and read which rights accounts have; the other accounts may log in, and keep the rights on single tables that
migrations gave them. An account without a password is dropped.

Prints "changed: why" or "unchanged", and exits with 0. --check changes nothing, and says what would. --prove logs in as
each account over TCP. Run it as root on the server's host; no password is ever part of a statement or a command line.
"""

# ruff: noqa: T201  # a program: what it prints is its answer

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PLUGIN = "mysql_native_password"  # the one that every client knows without further libraries
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOSTS = re.compile(r"[A-Za-z0-9%._:/-]{1,60}")
_GRANT = re.compile(r"GRANT (?P<rights>.+) ON (?P<scope>\S+) TO ")
_LOGIN_SECONDS = 10
_OPTION = " WITH GRANT OPTION"
# Where `dist-test-master migrate --grant` looks what the accounts have. There are no passwords in them.
_GRANT_TABLES = ("db", "tables_priv", "columns_priv")


class AccountsError(Exception):
    """The accounts could not be read or set, or do not work."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """One account; `password` is '' for one that is not to be."""

    name: str
    hosts: str
    password: str

    def __str__(self) -> str:
        return f"'{self.name}'@'{self.hosts}'"

    @property
    def stored_password(self) -> str:
        """What the server keeps of the password."""
        once = hashlib.sha1(self.password.encode(), usedforsecurity=False).digest()
        return f"*{hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()}"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the server is to have."""

    database: str
    owner: Account
    programs: tuple[Account, ...]

    @classmethod
    def from_json(cls, text: str) -> "Wanted":
        """Read the file of the role. Raises AccountsError that names a bad name."""
        document = json.loads(text)
        hosts = _checked("host", document["hosts"], _HOSTS)
        owner, *programs = (
            Account(name=_checked("account", each["name"], _NAME), hosts=hosts, password=each["password"])
            for each in [document["owner"], *document["programs"]]
        )
        if not owner.password:
            raise AccountsError("the owner of the database has no password; set mysql_owner_password")
        database = _checked("database", document["database"], _NAME)
        return cls(database=database, owner=owner, programs=tuple(programs))

    @property
    def accounts(self) -> tuple[Account, ...]:
        return (self.owner, *self.programs)

    @property
    def scope(self) -> str:
        """The database as the server writes it in rights, where _ stands for any character."""
        return f"`{self.database.replace('_', chr(92) + '_')}`.*"


def _checked(kind: str, text: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(text):
        raise AccountsError(f"{text!r} cannot be the name of the {kind}; it has to match {pattern.pattern}")
    return text


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the server has. Accounts are (name, host); they have a plugin and a stored password, and lines of grants."""

    databases: frozenset[str]
    passwords: Mapping[tuple[str, str], tuple[str, str]]
    grants: Mapping[tuple[str, str], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """Statements that mend one difference, which `reason` tells in words."""

    reason: str
    statements: tuple[str, ...]


def plan(wanted: Wanted, found: Found) -> list[Step]:
    """The steps from what was found to what is wanted."""
    steps = [step for name, hosts in sorted(found.passwords) for step in _superfluous(wanted, name, hosts)]
    if wanted.database not in found.databases:
        create = f"CREATE DATABASE `{wanted.database}` CHARACTER SET utf8mb4"
        steps.append(Step(reason=f"created database {wanted.database}", statements=(create,)))
    for account in wanted.accounts:
        if account.password:
            steps += _password(account, found)
            steps += _rights(wanted, account, found)
    return steps


def _superfluous(wanted: Wanted, name: str, hosts: str) -> Iterator[Step]:
    is_ours = name in {account.name for account in wanted.accounts}
    is_kept = (name, hosts) in {(account.name, account.hosts) for account in wanted.accounts if account.password}
    # One without a name lets everyone in, and wins over ours on its host.
    if not name or (is_ours and not is_kept):
        yield Step(reason=f"dropped '{name}'@'{hosts}'", statements=(f"DROP USER '{name}'@'{hosts}'",))


def _password(account: Account, found: Found) -> Iterator[Step]:
    has = found.passwords.get((account.name, account.hosts))
    identified = f"IDENTIFIED VIA {PLUGIN} USING '{account.stored_password}'"
    if has is None:
        yield Step(reason=f"created {account}", statements=(f"CREATE USER {account} {identified}",))
    elif has != (PLUGIN, account.stored_password):
        yield Step(reason=f"changed the password of {account}", statements=(f"ALTER USER {account} {identified}",))


def _rights(wanted: Wanted, account: Account, found: Found) -> Iterator[Step]:
    # A line for each scope. The one for everything carries the password, and USAGE, which is nothing.
    rights = dict(_read_grant(line) for line in found.grants.get((account.name, account.hosts), ()))
    granted = {scope: right for scope, right in rights.items() if right != "USAGE"}
    is_owner = account == wanted.owner
    allowed = _owner_rights(wanted) if is_owner else {}
    for scope, right in granted.items():
        # What migrations gave the programs are rights on single tables.
        if right != allowed.get(scope) and (is_owner or scope.endswith(".*")):
            statements = _revocations(right, scope, account)
            yield Step(reason=f"revoked from {account} what it had on {scope}", statements=statements)
    for scope, right in allowed.items():
        if granted.get(scope) != right:
            option = _OPTION if right.endswith(_OPTION) else ""
            grant = f"GRANT {right.removesuffix(_OPTION)} ON {scope} TO {account}{option}"
            yield Step(reason=f"granted {account} {right} on {scope}", statements=(grant,))


def _owner_rights(wanted: Wanted) -> dict[str, str]:
    return {wanted.scope: f"ALL PRIVILEGES{_OPTION}"} | {f"`mysql`.`{table}`": "SELECT" for table in _GRANT_TABLES}


def _read_grant(line: str) -> tuple[str, str]:
    match = _GRANT.match(line)
    if match is None:
        return f"({line})", "USAGE"  # a role; none of ours, and no scope
    option = _OPTION if line.endswith(_OPTION) else ""
    return match["scope"], match["rights"] + option


def _revocations(right: str, scope: str, account: Account) -> tuple[str, ...]:
    option = (f"REVOKE GRANT OPTION ON {scope} FROM {account}",) if right.endswith(_OPTION) else ()
    is_only_option = right == f"USAGE{_OPTION}"
    return option if is_only_option else (*option, f"REVOKE ALL PRIVILEGES ON {scope} FROM {account}")


class Server:
    """A MariaDB of this host, through its socket."""

    def __init__(self, options: Sequence[str] = ()) -> None:
        """`options`: how to find another than Debian's, for the client's command line."""
        self._command = ["mariadb", *options, "--protocol=socket", "--batch", "--raw", "--skip-column-names"]

    def find(self, wanted: Wanted) -> Found:
        """Say what the server has of what is wanted, and which accounts nobody should have."""
        names = ", ".join(f"'{name}'" for name in ["", *(account.name for account in wanted.accounts)])
        passwords = {
            (name, hosts): (plugin, stored)
            for name, hosts, plugin, stored in self._rows(
                f"SELECT User, Host, plugin, authentication_string FROM mysql.user WHERE User IN ({names})"  # noqa: S608  # checked names
            )
        }
        return Found(
            databases=frozenset(name for (name,) in self._rows("SHOW DATABASES")),
            passwords=passwords,
            grants={key: self._grants(*key) for key in passwords if key[0]},
        )

    def run(self, statements: Sequence[str]) -> None:
        """Execute the statements, one after the other until one fails. Raises AccountsError."""
        self._query("".join(f"{statement};\n" for statement in statements))

    def _grants(self, name: str, hosts: str) -> tuple[str, ...]:
        return tuple(line for (line,) in self._rows(f"SHOW GRANTS FOR '{name}'@'{hosts}'"))

    def _rows(self, query: str) -> list[list[str]]:
        return [line.split("\t") for line in self._query(query).splitlines()]

    def _query(self, text: str) -> str:
        done = subprocess.run(self._command, input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AccountsError(f"MariaDB refused: {done.stderr.strip()}")
        return done.stdout


def mend(wanted: Wanted, server: Server, *, is_check: bool) -> str:
    """Give the server what it lacks, unless `is_check`; "changed: " and what, or "unchanged"."""
    steps = plan(wanted, server.find(wanted))
    if not is_check:
        server.run([statement for step in steps for statement in step.statements])
    return f"changed: {'; '.join(step.reason for step in steps)}" if steps else "unchanged"


def prove(wanted: Wanted, authority: str) -> None:
    """Log in over TCP as each account. Raises AccountsError."""
    host, _, port = authority.rpartition(":")
    for account in wanted.accounts:
        if account.password:
            _log_in(account, host.strip("[]"), port)


def _log_in(account: Account, host: str, port: str) -> None:
    command = ["mariadb", "--no-defaults", "--protocol=TCP", f"--host={host}", f"--port={port}"]
    command += [f"--user={account.name}", f"--connect-timeout={_LOGIN_SECONDS}", "--execute=SELECT 1"]
    # The environment of a process is its user's alone.
    environment = {**os.environ, "MYSQL_PWD": account.password}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AccountsError(f"{account} cannot log in at {host}:{port}: {done.stderr.strip()}")


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="mysql-accounts", description="Give MariaDB the accounts of a file.")
    parser.add_argument("--check", action="store_true", help="change nothing, say what would be changed")
    parser.add_argument("--prove", metavar="HOST:PORT", help="log in as each account")
    parser.add_argument("file", type=Path)
    options = parser.parse_args(words)
    try:
        wanted = Wanted.from_json(options.file.read_text())
        if options.prove:
            prove(wanted, options.prove)
            return 0
        print(mend(wanted, Server(), is_check=options.check))
    except AccountsError as exc:
        print(f"mysql-accounts: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
