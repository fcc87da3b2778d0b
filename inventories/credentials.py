"""Rules on passwords. No message shows one."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from inventories.model import Inventory, Mistake, Place, Rule

MIN_CHARACTERS = 12
# By group: what its services cannot do without. The autoscaler's account is made only where it has a password.
NEEDED = {
    "database": ("mysql_owner_password", "mysql_master_password", "mysql_slave_password"),
    "object_store": ("object_store_access_key", "object_store_secret_key"),
    "autoscaler": ("mysql_autoscaler_password",),
}
OPTIONAL = {
    "database": ("mysql_autoscaler_password", "mysql_isolate_password"),
    "isolate_servers": ("isolate_token_key",),
}
# Words that people write where a password should be.
GUESSED_FIRST = (
    "changeme",
    "change-me",
    "change_me",
    "password",
    "secret",
    "replaceme",
    "dist_test",
    "12345",
    "qwerty",
)
GENERATE = "run `.venv/bin/python -m inventories.passwords {name}`, which writes random ones"


def passwords_are_there(inventory: Inventory) -> Iterator[Mistake]:
    for group, names in NEEDED.items():
        for host in inventory.hosts_of(group)[:1]:
            for name in names:
                if host.values.get(name) in (None, ""):
                    yield _mistake(inventory, inventory.place_for(host, name), name, "it has no value")


def passwords_are_strong(inventory: Inventory) -> Iterator[Mistake]:
    for place, name, password, user in _passwords(inventory):
        if wrong := weakness(password, user):
            yield _mistake(inventory, place, name, wrong)


def weakness(password: str, user: str = "") -> str | None:
    """Why somebody would guess the password, or None."""
    if password == user:
        return "it is the name of its user"
    if any(word in password.lower() for word in GUESSED_FIRST):
        return "it has a word in it that is guessed first"
    if len(password) < MIN_CHARACTERS:
        return f"it has {len(password)} characters, fewer than {MIN_CHARACTERS}"
    if len(set(password)) < MIN_CHARACTERS // 2:
        return "it repeats a few characters"
    return None


def passwords_differ(inventory: Inventory) -> Iterator[Mistake]:
    seen: dict[str, str] = {}
    for place, name, password, _ in _passwords(inventory):
        first = seen.setdefault(password, name)
        if first != name:
            yield _mistake(inventory, place, name, f"it is the same as {first}")


def _passwords(inventory: Inventory) -> Iterator[tuple[Place, str, str, str]]:
    """Place, name, password and user of each account, once."""
    for group in ("database", "object_store", "isolate_servers"):
        for host in inventory.hosts_of(group)[:1]:
            for name in (*NEEDED.get(group, ()), *OPTIONAL.get(group, ())):
                # An access key is a name that nobody has to guess.
                if host.get(name) and not name.endswith("_access_key"):
                    user = host.get(name.replace("_password", "_user")) if name.endswith("_password") else ""
                    yield inventory.place_for(host, name), name, str(host.get(name)), str(user or "")
    yield from _accounts(inventory)


def _accounts(inventory: Inventory) -> Iterator[tuple[Place, str, str, str]]:
    for host in inventory.hosts_of("masters")[:1]:
        accounts: Any = host.get("master_accounts")
        for user, password in accounts.items() if isinstance(accounts, dict) else ():
            place = inventory.place_for(host, "master_accounts")
            yield place, f"master_accounts.{user}", str(password or ""), str(user)


def slaves_have_an_account(inventory: Inventory) -> Iterator[Mistake]:
    """The account that slaves use at the master has to be one of the master's."""
    master = next(iter(inventory.hosts_of("masters")), None)
    accounts: Any = master.get("master_accounts") if master else None
    for host in inventory.hosts_of("slaves")[:1]:
        user, password = host.get("slave_user"), host.get("slave_password")
        place = inventory.place_for(host, "slave_user")
        if user and isinstance(accounts, dict) and str(accounts.get(user)) != str(password):
            wrong = f"master_accounts has no {user} with this password, so no slave could ask for a retry"
            yield _mistake(inventory, place, "slave_user", wrong, "make them agree")
        elif master and not user and not master.get("master_allowed_networks"):
            wrong = "slaves have no account, and master_allowed_networks is empty: their retries would come late"
            warning = _mistake(inventory, place, "slave_user", wrong, "name one of master_accounts")
            yield replace(warning, is_warning=True)


def _mistake(inventory: Inventory, place: Place, key: str, wrong: str, instead: str | None = None) -> Mistake:
    instead = instead or GENERATE.format(name=inventory.directory.name)
    return Mistake(place=place, key=key, wrong=wrong, instead=instead)


RULES: tuple[Rule, ...] = (passwords_are_there, passwords_are_strong, passwords_differ, slaves_have_an_account)
