"""HTTP Digest signs an address: it must be the one that is asked for."""

import pytest

from dist_test.master.auth import is_about


@pytest.mark.parametrize(
    ("uri", "path", "query", "expected"),
    [
        pytest.param("/cancel_job?job_id=a", "/cancel_job", b"job_id=a", True, id="the same"),
        pytest.param("/cancel_job?job_id=a", "/cancel_job", b"job_id=b", False, id="another query"),
        pytest.param("/cancel_job", "/cancel_job", b"job_id=a", False, id="query left out"),
        pytest.param("/job_status?job_id=a", "/cancel_job", b"job_id=a", False, id="another path"),
        pytest.param("//retry_task", "/retry_task", b"", True, id="double slash"),
        pytest.param("http://master:8081/retry_task", "/retry_task", b"", True, id="absolute"),
        pytest.param("http://master:8081//retry_task?a=b", "/retry_task", b"a=b", True, id="absolute, double slash"),
        pytest.param("/api/v1/jobs/a%40b/cancel", "/api/v1/jobs/a@b/cancel", b"", True, id="escaped"),
        pytest.param("/cancel_job?job_id=%C3%A4", "/cancel_job", b"job_id=%C3%A4", True, id="query stays escaped"),
        pytest.param("", "/", b"", True, id="empty is the root"),
        pytest.param("nonsense", "/retry_task", b"", False, id="nonsense"),
        pytest.param("/x?\u2603", "/x", b"?", True, id="what no request line can hold is no error"),
    ],
)
def test_a_signed_uri_is_of_the_request_or_not(uri: str, path: str, query: bytes, expected: bool) -> None:
    assert is_about(uri, path, query) is expected
