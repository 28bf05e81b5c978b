"""What the operators' commands put on the screen: colours on a terminal, plain lines anywhere else, JSON on demand."""

import json
import os
import select
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.text import Text

GOOD: Final = "green"
WARNING: Final = "yellow"
BAD: Final = "bold red"
FAINT: Final = "dim"
PLAIN: Final = ""

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that move the cursor, turn the writing direction, or cannot be written at all."""


class Screen(Console):
    """Standard output for people: unwrapped, whatever its encoding."""

    def __init__(self) -> None:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        super().__init__(highlight=False, soft_wrap=True, emoji=False)

    def on_broken_pipe(self) -> None:
        """Leave it to the command whether a reader that has left is a good end; rich would exit with 1."""
        raise BrokenPipeError


def line(*parts: tuple[object, str]) -> Text:
    """A line of parts, each with its style; nothing in them can reach the terminal as a command."""
    return Text.assemble(*((printable(str(part)), style) for part, style in parts))


def printable(text: str) -> str:
    """The text with control and direction characters shown as escapes: what others wrote must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(ascii(char)[1:-1] if unicodedata.category(char) in _HIDDEN else char for char in text)


def print_json(value: Any) -> None:
    """One JSON value on one line, at once."""
    # In ASCII: some of what Unicode calls text ends a line or turns it round.
    print(json.dumps(value), flush=True)


def complain(command: str, message: str) -> None:
    """One line on standard error."""
    print(f"kkt-bridge {command}: {printable(message)}", file=sys.stderr, flush=True)


@contextmanager
def until_reader_leaves() -> Iterator[None]:
    """For a command that follows for ever: Ctrl-C and a closed pipe are its good ends."""
    try:
        yield
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # What is still buffered must not meet the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def reader_has_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more: it may be long until a write would tell."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
