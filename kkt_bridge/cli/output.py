"""Output of the operators' commands: colours on a terminal, plain lines anywhere else, JSON on demand."""

import argparse
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


class Output(Console):
    """Standard output for people: unwrapped, whatever its encoding."""

    def __init__(self) -> None:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        super().__init__(highlight=False, soft_wrap=True, emoji=False)

    def on_broken_pipe(self) -> None:
        """Raise, so that the command decides whether that is a good end; rich would exit with 1."""
        raise BrokenPipeError


def line(*parts: tuple[object, str]) -> Text:
    """Return a line of parts, each with its style; nothing in them can reach the terminal as a command."""
    return Text.assemble(*((printable(str(part)), style) for part, style in parts))


def printable(text: str) -> str:
    """Return the text with control and direction characters as escapes: a message must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(ascii(char)[1:-1] if unicodedata.category(char) in _HIDDEN else char for char in text)


def print_json(value: Any) -> None:
    """Print a JSON value on one line, at once."""
    # In ASCII: some of what Unicode calls text ends a line or turns it round.
    print(json.dumps(value), flush=True)


def print_result(args: argparse.Namespace, result: Any, text: str | Text) -> None:
    """Print what came of a command: as JSON where `--json` asks for it, or else this text."""
    if args.json:
        print_json(result)
    else:
        Output().print(line((text, PLAIN)) if isinstance(text, str) else text)


def print_error(command: str, message: str) -> int:
    """Print one line on standard error; return the exit status of a command that could not do it."""
    print(f"kkt-bridge {command}: {printable(message)}", file=sys.stderr, flush=True)
    return 1


@contextmanager
def until_reader_leaves() -> Iterator[None]:
    """End the block in good order at Ctrl-C and at a closed pipe: for a command that runs for ever."""
    try:
        yield
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        forget_buffered_output()


def forget_buffered_output() -> None:
    """Let what is still buffered not meet a pipe at exit that its reader has closed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def reader_has_left() -> bool:
    """Return whether standard output is a pipe without a reader: it may be long until a write would tell."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
