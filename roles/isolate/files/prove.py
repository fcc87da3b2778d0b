#!/usr/bin/python3
"""prove HOST:PORT: upload a blob to the isolate server and fetch it again; exit status 1 if that cannot be done."""

import base64
import hashlib
import http.client
import json
import sys
import time
import zlib
from typing import Any

_API = "/_ah/api/isolateservice/v1"
_CONTENT = b"put by the role isolate\n"
_NAMESPACE = {"namespace": "default-gzip"}
_START_SECONDS = 60


def main(arguments: list[str]) -> int:
    (address,) = arguments
    digest = hashlib.sha1(_CONTENT, usedforsecurity=False).hexdigest()
    item = {"digest": digest, "size": len(_CONTENT)}
    answer = _preupload(address, {"items": [item], "namespace": _NAMESPACE})
    # None is missing when an earlier proof has left it.
    for missing in answer.get("items", []):
        stored = base64.b64encode(zlib.compress(_CONTENT)).decode()
        _call(address, "store_inline", {"upload_ticket": missing["upload_ticket"], "content": stored})
    answer = _call(address, "retrieve", {"digest": digest, "namespace": _NAMESPACE})
    if zlib.decompress(base64.b64decode(answer["content"])) != _CONTENT:
        sys.exit(f"the isolate server at {address} gives blob {digest} with another content")
    return 0


def _preupload(address: str, document: object) -> dict[str, Any]:
    """Tries until the server has started."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return _call(address, "preupload", document)
        except OSError as exc:
            if time.monotonic() > deadline:
                sys.exit(f"the isolate server at {address} does not answer: {exc}")
        time.sleep(1)


def _call(address: str, method: str, document: object) -> dict[str, Any]:
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("POST", f"{_API}/{method}", json.dumps(document), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        sys.exit(f"{method} at {address} is answered {answer.status}: {content.decode(errors='replace')}")
    found: dict[str, Any] = json.loads(content)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
