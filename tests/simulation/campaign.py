"""Many seeds, over several processes; what fails is named with the command that lives it again."""

import logging
import multiprocessing
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from simulation.mutations import MUTATIONS, SHOWN_ON
from simulation.world import World

REPLAY = "make simulate DAY="
MEMORY = Path("/dev/shm")


@dataclass
class Census:
    """Counts of what happened on all those days, for people."""

    days: int = 0
    receipts: int = 0
    documents: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Census") -> None:
        """Count those days too."""
        self.days += other.days
        self.receipts += other.receipts
        self.documents += other.documents
        self.faults += other.faults
        self.effects += other.effects
        self.crashes += other.crashes

    def __str__(self) -> str:
        never = sorted(set(self.effects) - set(self.crashes))
        return (
            f"{self.receipts} receipts, {self.documents} documents, {self.faults.total()} faults of "
            f"{len(self.faults)} kinds, {self.effects.total()} effects of {len(self.effects)} kinds; "
            f"the process died at {self.crashes.total()} of them"
            + (f", never at: {', '.join(never)}" if never else ", at each kind at least once")
        )


@dataclass
class Result:
    """The outcome of one day."""

    seed: int
    problem: str | None
    census: Census


def live(seed: int, tell: Callable[[str], None] | None = None) -> Result:
    """Live one day."""
    folder = Path(tempfile.mkdtemp(prefix="kkt-day-", dir=MEMORY if MEMORY.is_dir() else None))
    problem, census = None, Census()
    try:
        world = World(seed, folder, tell)
        try:
            world.live()
        finally:
            census = _census(world)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is this seed's)
        if tell is not None:
            tell("".join(traceback.format_exception(error)))
        problem = f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Result(seed, problem, census)


def _census(world: World) -> Census:
    return Census(
        days=1,
        receipts=len(world.sales()),
        documents=len(world.ofd.documents()),
        faults=world.faults,
        effects=world.effects.seen,
        crashes=world.effects.crashes,
    )


def one_day(seed: int, tell: Callable[[str], None] | None) -> int:
    """Live one day and say how it went; the exit status."""
    logging.disable(logging.CRITICAL)
    problem = live(seed, tell).problem
    print(problem or f"seed {seed}: all held")
    return 1 if problem else 0


def campaign(seeds: Sequence[int], *, jobs: int) -> int:
    """Live all these days; say which went wrong, and how to live them again; the exit status."""
    started, failed, census = time.monotonic(), 0, Census()
    for result in _results(seeds, jobs):
        census.add(result.census)
        if result.problem is not None:
            failed += 1
            print(f"{result.problem}\n    {REPLAY}{result.seed}", flush=True)
    took = time.monotonic() - started
    print(f"{len(seeds)} seeds in {took:.1f} s, {failed} failed: {census}")
    return 1 if failed else 0


def hunt(names: Sequence[str], seeds: Sequence[int], *, jobs: int) -> int:
    """Plant each of these bugs in a process of its own, and live days until one goes wrong, as one must.

    The exit status is 1 if any was not caught.
    """
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        caught = 0
        for name, day, problem in pool.imap(partial(_hunt_one, seeds), names, chunksize=1):
            caught += problem is not None
            print(f"{name}: not caught" if problem is None else f"{name}: caught on day {day}: {problem}", flush=True)
    return 0 if caught == len(names) else 1


def _hunt_one(seeds: Sequence[int], name: str) -> tuple[str, int, str | None]:
    """The bug, the first of the days that shows it, and what happened on it.

    The day that showed it last comes first: a change of the program may make another day of it, but seldom does.
    """
    logging.disable(logging.CRITICAL)
    MUTATIONS[name]()
    for seed in dict.fromkeys([SHOWN_ON[name], *seeds]):
        if (problem := live(seed).problem) is not None:
            return name, seed, problem
    return name, -1, None


def _results(seeds: Sequence[int], jobs: int) -> Iterator[Result]:
    if jobs == 1:
        logging.disable(logging.CRITICAL)
        yield from map(live, seeds)
        return
    with multiprocessing.Pool(jobs, initializer=logging.disable, initargs=(logging.CRITICAL,)) as pool:
        yield from pool.imap_unordered(live, seeds, chunksize=10)
