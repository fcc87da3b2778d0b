"""What is said to the user beside a command's own output."""

import click


def say(message: str) -> None:
    """Print a message to stderr, each of its lines marked as ours."""
    for line in message.splitlines():
        click.echo(f"dist-test: {line}", err=True)


def printable(text: str) -> str:
    """The text in one line, without control characters: descriptions are other people's, and end on our terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
