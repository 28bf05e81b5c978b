"""`python -m benchmarks.submissions`: the reference. Bare httpx loops post documents to an OFD."""

import argparse
import json
import threading
import time
import uuid

import httpx

from kkt_bridge.wire.examples import EXAMPLES

RECEIPT_PATH = "/ofd/v1/receipt"
TIMEOUT_S = 30.0


def main() -> int:
    """Post, and print documents and seconds as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.submissions", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, required=True, help="documents in all")
    parser.add_argument("--threads", type=int, default=1, help="each with a client of its own")
    parser.add_argument("--at", type=float, default=0.0, help="when to begin, in Unix seconds")
    args = parser.parse_args()
    shares = [[_submission() for _ in range(args.count // args.threads)] for _ in range(args.threads)]
    threads = [threading.Thread(target=_post, args=(args.url + RECEIPT_PATH, share)) for share in shares]
    time.sleep(max(0.0, args.at - time.time()))
    began = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"documents": sum(map(len, shares)), "began": began, "ended": time.time()}))
    return 0


def _submission() -> tuple[str, bytes]:
    """A document as a bridge sends it, with an id of its own; and its key."""
    document = EXAMPLES["ofd-document"]
    receipt = document["receipt"] | {"receipt_id": str(uuid.uuid4())}
    body = json.dumps(document | {"receipt": receipt}, ensure_ascii=False, separators=(",", ":")).encode()
    return f"{receipt['pos_id']}:{receipt['receipt_id']}", body


def _post(url: str, share: list[tuple[str, bytes]]) -> None:
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        for key, body in share:
            headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
            client.post(url, content=body, headers=headers).raise_for_status()


if __name__ == "__main__":
    raise SystemExit(main())
