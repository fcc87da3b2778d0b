"""The signature with which the role object_store proves its service."""

from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from roles.object_store.files.prove import signed_headers

ADDRESS = "192.0.2.13:8333"
PATH = "/results/.dist_test/proof"
ACCOUNT = {"accessKey": "tests", "secretKey": "a secret/with+signs"}


@pytest.mark.parametrize(
    ("method", "body"), [("GET", b""), ("PUT", b"content"), ("DELETE", b"")], ids=["get", "put", "delete"]
)
def test_a_request_is_signed_as_amazons_library_signs_it(method: str, body: bytes) -> None:
    request = AWSRequest(method, f"http://{ADDRESS}{PATH}", data=body)
    S3SigV4Auth(Credentials(ACCOUNT["accessKey"], ACCOUNT["secretKey"]), "s3", "us-east-1").add_auth(request)
    now = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ours = signed_headers(ADDRESS, method, PATH, ACCOUNT, body, now=now)
    assert ours["Authorization"] == request.headers["Authorization"]
