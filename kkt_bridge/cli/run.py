"""`kkt-bridge run`: the bridge itself."""

import argparse
import logging
import sys
from pathlib import Path

from kkt_bridge.cli.config_warnings import config_warnings
from kkt_bridge.errors import KktBridgeError, SettingsError
from kkt_bridge.logs import configure_logging
from kkt_bridge.runtime.bridge import Bridge
from kkt_bridge.runtime.process_tuning import collect_seldom, share_one_heap, stay_on_one_core
from kkt_bridge.runtime.stop_signals import block_stop_signals, wait_for_stop_signal
from kkt_bridge.settings import load_settings

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the TOML file with the settings")
    parser.add_argument("--json", action="store_true", help="log as JSON, one object a line")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 2 for unusable settings, 1 if the bridge cannot start."""
    block_stop_signals()  # before there are threads, as the next two
    try:
        settings = load_settings(args.config)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if settings.process.cores == "one":
        stay_on_one_core()
    share_one_heap()
    configure_logging(settings.log.model_copy(update={"format": "json"}) if args.json else settings.log)
    for warning in config_warnings(settings):
        log.warning("%s: %s; %s", warning.key, warning.message, warning.advice)
    bridge = Bridge(settings)
    try:
        bridge.start()
    except KktBridgeError as error:
        print(f"kkt-bridge: {error}", file=sys.stderr)
        bridge.stop()
        return 1
    collect_seldom()
    wait_for_stop_signal()
    bridge.stop()
    return 0
