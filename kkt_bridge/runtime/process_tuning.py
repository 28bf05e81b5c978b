"""The process: its core, its heap, its garbage collector."""

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

COLLECT_EVERY: Final = 20_000
"""New containers before the collector runs; a receipt makes hundreds, and hardly one that only it could free."""

_M_ARENA_MAX: Final = -8
"""mallopt(3): how many heaps the C library makes for the threads of a process."""

_PROCESSOR: Final = 36
"""The place of `processor` behind the name in /proc/self/stat (proc(5), field 39)."""


def stay_on_one_core() -> None:
    """Keep this thread, and all that it starts from now on, on the core where the system has put it.

    Elsewhere than on Linux, and where the system does not let us, nothing changes.

    The interpreter computes in one thread at a time. On several cores each change of thread would wake another core,
    which then fetches from the first what it needs: a fifth of the throughput.
    """
    with suppress(AttributeError, OSError, ValueError, IndexError):
        core = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[_PROCESSOR])
        os.sched_setaffinity(0, {core})


def share_one_heap() -> None:
    """Let all threads that come allocate from one heap of the C library, where it is glibc.

    It would give each thread a heap of its own, which keeps what was freed there: megabytes, for threads that compute
    one at a time anyway.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def collect_seldom() -> None:
    """Leave alone what there is by now, and run the collector seldom: what comes and goes is freed without it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY)
