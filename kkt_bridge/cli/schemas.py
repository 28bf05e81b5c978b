"""`kkt-bridge schemas`: write the published description of the wire contract, or check that it is up to date."""

import argparse
from pathlib import Path

from kkt_bridge.cli.output import print_error
from kkt_bridge.wire.asyncapi import SCHEMA_SUFFIX
from kkt_bridge.wire.schemas import contract_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--out", type=Path, default=Path("schemas"), metavar="DIR", help="where the files belong (default: %(default)s)"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; name the files that are not up to date and exit with 1"
    )


def run(args: argparse.Namespace) -> int:
    """Write or check the files; return the exit status."""
    try:
        return _check(args.out) if args.check else _write(args.out)
    except OSError as error:
        return print_error("schemas", f"{error.filename or args.out}: {error.strerror}")


def _check(directory: Path) -> int:
    problems = contract_problems(directory)
    if not problems:
        print(f"{directory}: up to date")
        return 0
    for problem in problems:
        print(problem)
    return print_error("schemas", f"run `kkt-bridge schemas --out {directory}` and commit what it writes")


def _write(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    files = contract_files()
    for name, text in files.items():
        (directory / name).write_bytes(text.encode())
    print(f"{directory}: {len(files)} files written")
    # What else lies there is somebody's: it is named, not deleted.
    for problem in contract_problems(directory):
        print(problem)
    return 0


def contract_problems(directory: Path) -> list[str]:
    """Return a line for each file that is missing, stale or superfluous in this directory."""
    wanted = contract_files()
    found = {
        path.name: path for path in directory.glob("*") if path.name.endswith(SCHEMA_SUFFIX) or path.name in wanted
    }
    problems = [f"{directory / name}: missing" for name in wanted if name not in found]
    for name, path in sorted(found.items()):
        if name not in wanted:
            problems.append(f"{path}: superfluous, no message has this schema")
        elif path.read_bytes() != wanted[name].encode():
            problems.append(f"{path}: stale")
    return problems
