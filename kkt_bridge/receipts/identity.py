"""The key of a receipt, and the digests by which the bridge knows it again."""

import base64
import re
from hashlib import blake2b
from typing import Final, NamedTuple, TypeGuard


class ReceiptKey(NamedTuple):
    """The idempotency key of a receipt: two POS may use one id."""

    pos_id: str
    receipt_id: str

    def __str__(self) -> str:
        return f"{self.pos_id}:{self.receipt_id}"


def content_digest(canonical: bytes) -> bytes:
    """16 bytes that differ when the content does: same key and another digest is an idempotency conflict.

    Taken over a receipt's canonical form, so spelling ("1.0" or 1, a default given or not) makes no conflict.
    """
    return blake2b(canonical, digest_size=16).digest()


def requisite_1192(key: ReceiptKey) -> str:
    """The 16 characters printed in FFD tag 1192, by which a document is recognised after a crash.

    80 bits in base 32: within CP866 and the tag's limit, and readable on paper.
    """
    digest = blake2b(f"{key.pos_id}:{key.receipt_id}".encode(), digest_size=10).digest()
    return base64.b32encode(digest).decode()


def is_requisite(text: str | None) -> TypeGuard[str]:
    """Return whether a tag 1192 is one of `requisite_1192`'s making, by its form."""
    return text is not None and _REQUISITE.fullmatch(text) is not None


_REQUISITE: Final = re.compile("[A-Z2-7]{16}")
