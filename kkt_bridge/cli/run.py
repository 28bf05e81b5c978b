"""`kkt-bridge run`: the bridge itself."""

import argparse
import logging
import signal
import sys
from pathlib import Path
from typing import Final

from kkt_bridge.cli.remarks import remarks_on
from kkt_bridge.errors import KktBridgeError, SettingsError
from kkt_bridge.logs import configure_logging
from kkt_bridge.runtime.bridge import Bridge
from kkt_bridge.runtime.process_tuning import collect_seldom, share_one_heap, stay_on_one_core
from kkt_bridge.settings import load_settings

STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})
"""The signals that end it in good order."""

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `run`."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the TOML file with the settings")
    parser.add_argument("--json", action="store_true", help="log as JSON, one object a line")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 2 for unusable settings, 1 if the bridge cannot start."""
    # Held back, in every thread to come, until they are waited for: a handler of Python's runs only when the main
    # thread comes round to it, and a signal that came just before that thread went to sleep was never heard.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        settings = load_settings(args.config)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if settings.process.cores == "one":
        stay_on_one_core()  # before there are threads: those to come follow the one that starts them
    share_one_heap()  # the same
    configure_logging(settings.log.model_copy(update={"format": "json"}) if args.json else settings.log)
    for remark in remarks_on(settings):
        log.warning("%s: %s; %s", remark.key, remark.message, remark.advice)
    bridge = Bridge(settings)
    try:
        bridge.start()
    except KktBridgeError as error:
        print(f"kkt-bridge: {error}", file=sys.stderr)
        bridge.stop()
        return 1
    collect_seldom()
    signal.sigwait(STOPS)
    bridge.stop()
    return 0
