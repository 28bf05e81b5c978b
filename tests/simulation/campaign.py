"""Many seeds, over several processes; what fails is named with the command that lives it again."""

import logging
import multiprocessing
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from simulation.world import World

REPLAY = "PYTHONPATH=tests PYTHONHASHSEED=0 python -m simulation --seed"
MEMORY = Path("/dev/shm")


def live(seed: int, tell: Callable[[str], None] | None = None) -> str | None:
    """Live one day; what went wrong, or None."""
    folder = Path(tempfile.mkdtemp(prefix="kkt-day-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        World(seed, folder, tell).live()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is this seed's)
        if tell is not None:
            tell("".join(traceback.format_exception(error)))
        return f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return None


def one_day(seed: int, tell: Callable[[str], None] | None) -> int:
    """Live one day and say how it went; the exit status."""
    logging.disable(logging.CRITICAL)
    problem = live(seed, tell)
    print(problem or f"seed {seed}: all held")
    return 1 if problem else 0


def campaign(seeds: Iterable[int], *, jobs: int) -> int:
    """Live all these days; say which went wrong, and how to live them again; the exit status."""
    seeds = list(seeds)
    started, failed = time.monotonic(), 0
    for seed, problem in _results(seeds, jobs):
        if problem is not None:
            failed += 1
            print(f"{problem}\n    {REPLAY} {seed}", flush=True)
    took = time.monotonic() - started
    print(f"{len(seeds)} seeds in {took:.1f} s, {1000 * took * jobs / max(1, len(seeds)):.0f} ms each, {failed} failed")
    return 1 if failed else 0


def hunt(seeds: Iterable[int]) -> int:
    """Live days until one goes wrong, as one must; the exit status is 1 if none does."""
    logging.disable(logging.CRITICAL)
    for number, seed in enumerate(seeds, start=1):
        if (problem := live(seed)) is not None:
            print(f"caught by the {number}th day: {problem}")
            return 0
    print("not caught")
    return 1


def _results(seeds: list[int], jobs: int) -> Iterator[tuple[int, str | None]]:
    if jobs == 1:
        logging.disable(logging.CRITICAL)
        yield from ((seed, live(seed)) for seed in seeds)
        return
    with multiprocessing.Pool(jobs, initializer=logging.disable, initargs=(logging.CRITICAL,)) as pool:
        yield from pool.imap_unordered(_live_and_name, seeds, chunksize=10)


def _live_and_name(seed: int) -> tuple[int, str | None]:
    return seed, live(seed)
