"""`python -m benchmarks.references echo|submissions …`: the bare things that the bridge is held against."""

import argparse
import json
import os
import select
import signal
import sqlite3
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from paho.mqtt.client import MQTTMessage

from benchmarks.load import KEEPALIVE_S, Connection, percentile
from kkt_bridge.wire.examples import EXAMPLES

COMMITS = 300
WARM_UP_COMMITS = 30
ROW = b"x" * 200

RECEIPT_PATH = "/ofd/v1/receipt"
POST_TIMEOUT_S = 30.0

FN = f"{os.getpid():016}"
"""The fiscal storage whose documents this process posts: of each number there is one document."""


def commit_p50_ms(file: Path) -> float:
    """Return the median of bare sqlite3 commits of one small insert, set as the journal is: WAL, `synchronous=FULL`."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, body BLOB)")
        took_s = []
        for _ in range(WARM_UP_COMMITS + COMMITS):
            began = time.perf_counter()
            connection.execute("INSERT INTO rows (body) VALUES (?)", (ROW,))
            took_s.append(time.perf_counter() - began)
    return percentile(sorted(took_s[WARM_UP_COMMITS:]), 50) * 1000


def echo(port: int, protocol: int, branch: str) -> None:
    """Send each request back on its reply topic by a bare paho client, until SIGTERM."""

    def answer(message: MQTTMessage) -> None:
        client.publish(message.topic.removesuffix("receipt") + "reply", message.payload, qos=1)

    client_id = f"echo-{branch.replace('/', '-')}"
    connection = Connection(port, protocol, client_id, [f"{branch}/pos/+/receipt"], answer)
    client = connection.client
    print("ready", flush=True)
    while True:
        if select.select([connection.fileno()], [], [], KEEPALIVE_S / 4)[0]:
            connection.read_and_write()
        client.loop_misc()
        connection.write()


def submissions(url: str, count: int, threads: int, at: float) -> dict[str, float]:
    """Post so many documents by bare httpx clients, one a thread, from `at` (Unix seconds) on; the seconds it took."""
    numbers = iter(range(1, count + 1))
    shares = [[_submission(number) for number in islice(numbers, count // threads)] for _ in range(threads)]
    time.sleep(max(0.0, at - time.time()))
    began = time.time()
    with ThreadPoolExecutor(threads) as pool:
        # Taking the results raises what was raised in a thread: an OFD that refused would be the fastest of all.
        list(pool.map(partial(_post, url + RECEIPT_PATH), shares))
    return {"documents": sum(map(len, shares)), "began": began, "ended": time.time()}


def _submission(number: int) -> tuple[str, bytes]:
    """Return the key of a document with an id and a number of its own, and the document as a bridge sends it."""
    example = EXAMPLES["ofd-document"]
    receipt = example["receipt"] | {"receipt_id": str(uuid.uuid4())}
    document = example | {
        "receipt": receipt,
        "fiscal": example["fiscal"] | {"fn_number": FN, "fd_number": number},
        "ffd": {
            form: fields | {"fiscalDriveNumber": FN, "fiscalDocumentNumber": number}
            for form, fields in example["ffd"].items()
        },
    }
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return f"{receipt['pos_id']}:{receipt['receipt_id']}", body


def _post(url: str, share: list[tuple[str, bytes]]) -> None:
    with httpx.Client(timeout=POST_TIMEOUT_S, trust_env=False) as client:
        for key, body in share:
            headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
            client.post(url, content=body, headers=headers).raise_for_status()


def main() -> int:
    """Be the reference that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.references", description=__doc__)
    references = parser.add_subparsers(dest="reference", required=True)
    echoing = references.add_parser("echo")
    echoing.add_argument("--port", type=int, required=True)
    echoing.add_argument("--protocol", type=int, required=True)
    echoing.add_argument("--branch", required=True, help="of topics: requests come on BRANCH/pos/POS/receipt")
    posting = references.add_parser("submissions")
    posting.add_argument("--url", required=True)
    posting.add_argument("--count", type=int, required=True, help="documents in all")
    posting.add_argument("--threads", type=int, default=1, help="each with a client of its own")
    posting.add_argument("--at", type=float, default=0.0, help="when to begin, in Unix seconds")
    args = parser.parse_args()
    if args.reference == "echo":
        signal.signal(signal.SIGTERM, _end)
        echo(args.port, args.protocol, args.branch)
    print(json.dumps(submissions(args.url, args.count, args.threads, args.at)))
    return 0


def _end(*_: Any) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
