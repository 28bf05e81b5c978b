"""The order in which things that are held against each other are run."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def interleaved(contenders: Sequence[Callable[[], T]], rounds: int) -> list[list[T]]:
    """Rounds in which everyone has one run, so that a drifting machine hits them all; the runs of each.

    Each round begins with another one: nobody always comes after the same neighbour, with what that leaves behind.
    """
    runs: list[list[T]] = [[] for _ in contenders]
    for number in range(rounds):
        first = number % len(contenders)
        for index in (*range(first, len(contenders)), *range(first)):
            runs[index].append(contenders[index]())
    return runs
