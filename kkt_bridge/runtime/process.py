"""The process: its stop signals (SIGTERM, SIGINT), its core, its heap, its garbage collector."""

import ctypes
import gc
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
"""They end the bridge in good order."""

COLLECT_EVERY: Final = 20_000
"""New containers before the collector runs; a receipt makes hundreds, and hardly one that only it could free."""

_M_ARENA_MAX: Final = -8
"""mallopt(3): how many heaps the C library makes for the threads of a process."""

_PROCESSOR: Final = 36
"""The place of `processor` behind the name in /proc/self/stat (proc(5), field 39)."""


def block_stop_signals() -> None:
    """Hold SIGTERM and SIGINT back in this thread, and all that it starts, until they are waited for.

    A handler of Python's runs only when the main thread comes round to it: a signal that came just before that thread
    went to sleep would never be heard.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def wait_for_stop_signal() -> None:
    """Wait for SIGTERM or SIGINT, also one that came before."""
    signal.sigwait(STOP_SIGNALS)


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
