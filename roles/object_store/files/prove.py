#!/usr/bin/python3
"""prove IDENTITIES HOST:PORT BUCKET...: put, get and delete an object in each bucket; exit status 1 if S3 cannot."""

import hashlib
import hmac
import http.client
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

_KEY = ".dist_test/proof"
_CONTENT = b"put by the role object_store\n"
_START_SECONDS = 60


def main(arguments: list[str]) -> int:
    identities, address, *buckets = arguments
    account = json.loads(Path(identities).read_text())["identities"][0]["credentials"][0]
    for bucket in buckets:
        _prove(address, f"/{bucket}/{_KEY}", account)
    _expect(_request(address, "GET", f"/{buckets[0]}/{_KEY}", None)[0], 403, "a request without a signature")
    return 0


def _prove(address: str, path: str, account: dict[str, str]) -> None:
    _put(address, path, account)
    status, content = _request(address, "GET", path, account)
    _expect((status, content), (200, _CONTENT), f"GET {path}")
    _expect(_request(address, "DELETE", path, account)[0], 204, f"DELETE {path}")
    _expect(_request(address, "GET", path, account)[0], 404, f"GET {path} after DELETE")


def _put(address: str, path: str, account: dict[str, str]) -> None:
    """Tries until the store has started."""
    deadline = time.monotonic() + _START_SECONDS
    while (answer := _request_or_error(address, "PUT", path, account, _CONTENT)) != "200":
        if time.monotonic() > deadline:
            sys.exit(f"PUT {path} at {address}: {answer}")
        time.sleep(1)


def _expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        sys.exit(f"{what}: expected {wanted}, got {found}")


def _request_or_error(address: str, method: str, path: str, account: dict[str, str], body: bytes) -> str:
    try:
        return str(_request(address, method, path, account, body)[0])
    except OSError as exc:
        return str(exc)


def _request(
    address: str, method: str, path: str, account: dict[str, str] | None, body: bytes = b""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        headers = signed_headers(address, method, path, account, body) if account else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def signed_headers(
    address: str,
    method: str,
    path: str,
    account: dict[str, str],
    body: bytes,
    *,
    now: datetime | None = None,
    region: str = "us-east-1",
) -> dict[str, str]:
    """The headers of a request with Amazon's signature, version 4. The path has no character to be encoded."""
    # S3 API reference: "Signature Calculations for the Authorization Header"
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": address, "x-amz-content-sha256": digest, "x-amz-date": moment}
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"{method}\n{path}\n\n{lines}\n{';'.join(headers)}\n{digest}"
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{account['secretKey']}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"Credential={account['accessKey']}/{scope}, SignedHeaders={';'.join(headers)}"
    return headers | {"Authorization": f"AWS4-HMAC-SHA256 {credential}, Signature={signature}"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
