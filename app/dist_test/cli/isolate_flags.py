"""Flags as older programs take them: one dash or two, a value after `=` or a space."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import click

PAIRS = frozenset({"path-variable", "extra-variable", "config-variable"})


class Flag(NamedTuple):
    """What click calls a flag, and how many values follow it."""

    name: str
    values: int


_HELP = {"h": Flag("--help", 0), "help": Flag("--help", 0)}


class GoCommand(click.Command):
    """A command whose flags may be written as Go programs take them: `-name=value`, `-name value`."""

    # `-vv` and `-HHASH`, as Python's programs know them. In Go's, `-isolat` must not mean `-i solat`.
    takes_attached_values = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [parameter for parameter in self.params if isinstance(parameter, click.Option)]
        flags = {name.lstrip("-"): _flag(option) for option in options for name in option.opts}
        attached = {name for name in flags if len(name) == 1} if self.takes_attached_values else set()
        return super().parse_args(ctx, with_two_dashes(args, {**_HELP, **flags}, attached))


class PythonCommand(GoCommand):
    """A command whose flags may also be written as Python programs take short ones."""

    takes_attached_values = True


def with_two_dashes(arguments: Sequence[str], flags: Mapping[str, Flag], attached: set[str]) -> list[str]:
    """The arguments with every flag as click takes it; `K V` of a variable becomes `K=V`.

    attached: short flags that may be followed by their value in the same word.
    """
    todo = list(arguments)
    done: list[str] = []
    while todo:
        word = todo.pop(0)
        if word == "--":
            return [*done, word, *todo]
        name, equals, value = word.lstrip("-").partition("=")
        flag = flags.get(name) if word.startswith("-") else None
        if flag is None:
            done.append(_unknown(word, attached))
        elif name in PAIRS:
            done.append(f"{flag.name}={_pair(value, todo) if equals else _pair(_take(todo), todo)}")
        else:
            done.append(f"{flag.name}={value}" if equals else flag.name)
            done += [] if equals else [_take(todo) for _ in range(min(flag.values, len(todo)))]
    return done


def _flag(option: click.Option) -> Flag:
    takes_none = option.is_flag or option.count
    return Flag(max(option.opts, key=len), 0 if takes_none else option.nargs)


def _pair(text: str, todo: list[str]) -> str:
    return text if "=" in text or not todo else f"{text}={todo.pop(0)}"


def _take(todo: list[str]) -> str:
    return todo.pop(0) if todo else ""


def _unknown(word: str, attached: set[str]) -> str:
    """A word that is no known flag; if it looks like one, so that click names all of it in its complaint."""
    is_long = len(word) > 2 and word.startswith("-") and not word.startswith("--")
    return f"-{word}" if is_long and word[1] not in attached else word
