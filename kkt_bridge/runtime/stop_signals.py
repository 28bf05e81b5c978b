"""SIGTERM and SIGINT: held back until they are waited for; how the bridge stops then is in `bridge.py`."""

import signal
from typing import Final

STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
"""They end the bridge in good order."""


def block_stop_signals() -> None:
    """Hold SIGTERM and SIGINT back in this thread, and all that it starts, until they are waited for.

    A handler of Python's runs only when the main thread comes round to it: a signal that came just before that thread
    went to sleep would never be heard.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def wait_for_stop_signal() -> None:
    """Wait for SIGTERM or SIGINT, also one that came before."""
    signal.sigwait(STOP_SIGNALS)
