"""Rules on single values: that the variable exists, can be computed, and is of the kind that its role takes."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from inventories.model import (
    OPTIONS_OF_PLUGIN,
    Entry,
    Host,
    Inventory,
    Mistake,
    Option,
    Place,
    Rule,
    Unresolved,
    nearest,
    scalars,
)

# Of Ansible's own variables those that say how to reach a host; others would work differently with pyinfra, or not.
CONNECTION_VARIABLES = frozenset(
    (
        "ansible_become",
        "ansible_become_method",
        "ansible_become_password",
        "ansible_become_user",
        "ansible_connection",
        "ansible_host",
        "ansible_host_key_checking",
        "ansible_password",
        "ansible_port",
        "ansible_python_interpreter",
        "ansible_ssh_args",
        "ansible_ssh_common_args",
        "ansible_ssh_executable",
        "ansible_ssh_extra_args",
        "ansible_ssh_host_key_checking",
        "ansible_ssh_private_key_file",
        "ansible_ssh_timeout",
        "ansible_user",
    )
)
WORDS = {
    "bool": "true or false",
    "dict": "a mapping, `name: value` lines below it",
    "float": "a number",
    "int": "a whole number",
    "list": "a list, `- value` lines below it",
    "path": "a path",
    "str": "a single text; quote it where YAML reads something else",
}
_PORT = re.compile(r"[a-z0-9_]+_port\Z")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME = (rf"{_LABEL}(\.{_LABEL})*|[0-9A-Fa-f:.]+", "a name or an address alone, without https://, port or path")
_BUCKET = (r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "3 to 63 of a-z, 0-9, - and .")
# Texts that a service would stumble over only when hosts have been changed already; and what to write.
FORMS: Mapping[str, tuple[str, str]] = {
    "isolate_store": (rf"disk:/.+|s3:{_BUCKET[0]}", "disk:/absolute/path or s3:BUCKET"),
    "master_other_names": _NAME,
    "mysql_buffer_pool": (r"[0-9]+[KMGT]?", "a number and K, M, G or T, such as 4G"),
    "public_name": _NAME,
    "s3_blobs_bucket": _BUCKET,
    "s3_results_bucket": _BUCKET,
    "slave_slots": (r"[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-6]", "a whole number from 1 to 256"),
}


def variables_are_known(inventory: Inventory) -> Iterator[Mistake]:
    """A variable of the operator's own is fine when another value speaks of it."""
    known = inventory.catalog.names() | CONNECTION_VARIABLES
    spoken_of = _names_in_expressions(inventory)
    for entry in inventory.entries:
        if entry.name in known or entry.name in spoken_of or entry.scope == OPTIONS_OF_PLUGIN:
            continue
        near = nearest(entry.name, known)
        instead = f"did you mean {near}?" if near else "docs/reference/inventory.md lists all"
        yield Mistake(place=entry.place, key=entry.name, wrong="no role has such a variable", instead=instead)


def _names_in_expressions(inventory: Inventory) -> frozenset[str]:
    texts = [value for entry in inventory.entries for value in scalars(entry.value) if isinstance(value, str)]
    inside = (expression for text in texts for expression in re.findall(r"{[{%](.*?)[}%]}", text, re.DOTALL))
    return frozenset(name for expression in inside for name in re.findall(r"\w+", expression))


def values_can_be_computed(inventory: Inventory) -> Iterator[Mistake]:
    for entry, _, value in _in_force(inventory):
        if isinstance(value, Unresolved) and entry.name in inventory.catalog.names() | CONNECTION_VARIABLES:
            instead = "mend the expression, or define what it speaks of"
            yield Mistake(place=entry.place, key=entry.name, wrong=f"no value ({value.reason})", instead=instead)


def values_are_of_their_kind(inventory: Inventory) -> Iterator[Mistake]:
    for entry, _, value in _in_force(inventory):
        option = inventory.catalog.options.get(entry.name)
        if option is not None and not isinstance(value, Unresolved) and (complaint := complain(option, value)):
            yield Mistake(place=entry.place, key=entry.name, wrong=complaint[0], instead=complaint[1])


def values_have_their_form(inventory: Inventory) -> Iterator[Mistake]:
    for entry, _, value in _in_force(inventory):
        option = inventory.catalog.options.get(entry.name)
        if entry.name in FORMS and not (option and complain(option, value)):
            form, words = FORMS[entry.name]
            for single in scalars(value):
                if _is_text(single) and not re.fullmatch(form, str(single)):
                    wrong = f"{_shown(single)} will not do"
                    yield Mistake(place=entry.place, key=entry.name, wrong=wrong, instead=f"write {words}")


def _in_force(inventory: Inventory) -> Iterator[tuple[Entry, Host, Any]]:
    """Each value that the operator wrote, with a host that goes by it and what it is there."""
    for host in inventory.hosts:
        for name in sorted({entry.name for entry in inventory.entries} & host.values.keys()):
            entry = inventory.entry_for(host, name)
            if entry is not None:
                yield entry, host, host.values[name]


def complain(option: Option, value: Any) -> tuple[str, str] | None:
    """What is wrong with a value, and what to write instead; None when it is right."""
    if value is None:
        return "the value is empty", f"write {_words(option)}, or remove the line for the default"
    if not KINDS.get(option.type, _anything)(value):
        return f"{_shown(value)} is not {re.split('[,;]', _words(option))[0]}", f"write {_words(option)}"
    members = value if option.type == "list" else ()
    for member in members:
        if option.elements and not KINDS.get(option.elements, _anything)(member):
            return f"{_shown(member)} is no {option.elements}", f"each element has to be {WORDS[option.elements]}"
    for member in members or [value]:
        if option.choices and member not in option.choices:
            return f"{_shown(member)} is none of the choices", f"write {_choices(option)}"
    if _PORT.match(option.name) and option.type == "int" and not 0 < int(value) < 2**16:
        return f"{value} is no port", "write a whole number from 1 to 65535"
    if option.type == "int" and int(value) < 0:
        return f"{value} is below 0", "write a number that is not"
    return None


def _words(option: Option) -> str:
    return _choices(option) if option.choices and option.type != "list" else WORDS.get(option.type, "a value")


def _choices(option: Option) -> str:
    return "one of " + ", ".join(_shown(choice) for choice in option.choices)


def _shown(value: Any) -> str:
    """The value as it would stand in YAML, shortened; mappings may hold passwords and are not shown."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"'{value[:60]}'" if isinstance(value, str) else str(value).lower()


def _anything(_value: Any) -> bool:
    return True


def _is_whole_number(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or bool(re.fullmatch(r"-?\d+", str(value)))


def _is_number(value: Any) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)) or bool(
        re.fullmatch(r"-?\d+(\.\d+)?", str(value))
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


# A text such as "false" counts as true in a template, so truth values are taken as such only.
KINDS: Mapping[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "dict": lambda value: isinstance(value, Mapping),
    "float": _is_number,
    "int": _is_whole_number,
    "list": lambda value: isinstance(value, list),
    "path": _is_text,
    "str": _is_text,
}


def files_exist(inventory: Inventory) -> Iterator[Mistake]:
    """The certificate and its key: both or neither, and both there."""
    for host in inventory.hosts_of("masters"):
        paths = {name: host.get(name) or "" for name in ("master_tls_certificate", "master_tls_key")}
        for name, path in paths.items():
            if path and not inventory.file(str(path)).is_file():
                yield _blame_file(inventory.place_for(host, name), name, f"there is no file {path}")
            elif not path and any(paths.values()):
                yield _blame_file(inventory.place_for(host, name), name, "the certificate and its key come together")


def _blame_file(place: Place, key: str, wrong: str) -> Mistake:
    instead = "name a PEM file on this machine, or remove both for a self-signed certificate"
    return Mistake(place=place, key=key, wrong=wrong, instead=instead)


RULES: tuple[Rule, ...] = (
    variables_are_known,
    values_can_be_computed,
    values_are_of_their_kind,
    values_have_their_form,
    files_exist,
)
