"""The documents that the OFD has: a simulated one lists them at `GET /_received`."""

import codecs
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlsplit

from kkt_bridge.audit.scratch_database import OfdDocument, ScratchDatabase
from kkt_bridge.settings import OfdSettings, masked_url

PATH: Final = "/_received"
_LIST: Final = '"documents": ['
"""The beginning of the documents in its answer."""

_CHUNK: Final = 1 << 16
"""Bytes of the answer that are read at once: it may be long, and is never kept whole."""

_HEAD_MAX: Final = 1 << 20
"""Characters within which the list must begin, and one document must end: else it is no such answer."""


def read_ofd(scratch: ScratchDatabase, settings: OfdSettings) -> str | None:
    """Store every document that the OFD took; return the reason where it does not list them."""
    url = masked_url(settings.url)
    try:
        with closing(_connect(settings)) as connection:
            connection.request("GET", urlsplit(settings.url).path.rstrip("/") + PATH)
            response = connection.getresponse()
            if response.status != http.client.OK:
                return f"{url} does not tell what it has ({PATH}: {response.status})"
            scratch.add_ofd_documents(_ofd_document(document) for document in _documents(response))
    except (OSError, http.client.HTTPException) as error:
        return f"{url} does not answer: {error or type(error).__name__}"
    except (ValueError, LookupError, TypeError):
        return f"{url}{PATH} is not what a simulated OFD answers"
    return None


def _connect(settings: OfdSettings) -> http.client.HTTPConnection:
    parts = urlsplit(settings.url)
    assert parts.hostname is not None, "the settings see to it"
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=settings.timeout_s)


def _documents(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Return the objects of the list, one by one, as the answer comes in. ValueError where it is no such list."""
    decode, parse = codecs.getincrementaldecoder("utf-8")().decode, json.JSONDecoder().raw_decode
    text, is_list = "", False
    while True:
        chunk = response.read(_CHUNK)
        text += decode(chunk, final=not chunk)
        if not is_list:
            _, found, rest = text.partition(_LIST)
            is_list, text = bool(found), rest if found else text
        while is_list:
            text = text.lstrip(" ,\r\n\t")
            if text.startswith("]"):
                return
            try:
                document, end = parse(text)
            except json.JSONDecodeError:
                break  # not all of it is here
            yield document
            text = text[end:]
        if not chunk or len(text) > _HEAD_MAX:
            raise ValueError("no list of documents")


def _ofd_document(document: dict[str, object]) -> OfdDocument:
    return OfdDocument(
        key=str(document["key"]),
        fn_number=str(document["fn_number"]),
        fd_number=int(str(document["fd_number"])),
        arrival=int(str(document["order"])),
    )
