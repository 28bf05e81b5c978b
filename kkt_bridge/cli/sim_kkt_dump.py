"""`kkt-bridge sim kkt-dump`: the fiscal documents in a virtual fiscal storage, as JSON lines."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kkt_bridge.cli.output import forget_buffered_output, print_error
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument, Registration
from kkt_bridge.registers.virtual.storage_file import StorageError, read_documents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the register's `state` file; may be in use")
    parser.add_argument("--json", action="store_true", help="changes nothing: the output is JSON lines as it is")


def run(args: argparse.Namespace) -> int:
    """Print every document, the shifts' included; return the exit status."""
    try:
        _dump(args.file)
    except (StorageError, ValueError) as error:
        return print_error("sim kkt-dump", str(error))
    except BrokenPipeError:
        forget_buffered_output()
    return 0


def _dump(path: Path) -> None:
    fn_number = ""
    for document in read_documents(path):
        fn_number = fn_number or Registration.of(document).fn_number
        print(json.dumps(_shown(document, fn_number), ensure_ascii=False))
    sys.stdout.flush()


def _shown(document: FiscalDocument, fn_number: str) -> dict[str, Any]:
    body = document.body
    return {
        "fd_number": document.fd_number,
        "type": body.type,
        "form": body.form,
        "operation": body.operation,
        "total": None if body.total is None else format_kopecks(body.total),
        "datetime": document.at.isoformat(timespec="seconds"),
        "fiscal_sign": document.fiscal_sign,
        "requisite_1192": body.requisite_1192,
        "shift_number": document.shift_number,
        "receipt_number": document.receipt_number,
        "fn_number": fn_number,
    }
