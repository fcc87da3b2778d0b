"""The bucket, on a real S3 server."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import urllib3

from dist_test.errors import ResultNotFound, ResultStoreUnavailable
from dist_test.local.daemons import SeaweedFs
from dist_test.storage.results import Bucket


@pytest.fixture(scope="module")
def make_bucket(seaweedfs: SeaweedFs) -> Callable[..., Bucket]:
    def make(name: str = "results", **changes: object) -> Bucket:
        settings: dict[str, object] = {
            "endpoint_url": seaweedfs.endpoint_url,
            "access_key": seaweedfs.access_key,
            "secret_key": seaweedfs.secret_key,
        }
        return Bucket(name, **(settings | changes))  # type: ignore[arg-type]  # the tests change single settings

    return make


@pytest.fixture(scope="module")
def bucket(make_bucket: Callable[..., Bucket]) -> Bucket:
    bucket = make_bucket()
    bucket.ensure_exists()
    return bucket


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name}/1.stdout"


def read(bucket: Bucket, key: str) -> bytes:
    with bucket.open(key) as stream:
        return stream.read()


def get(url: str) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager() as pool:
        return pool.request("GET", url)


def test_a_bucket_is_made_once(make_bucket: Callable[..., Bucket]) -> None:
    bucket = make_bucket("made-once")
    bucket.ensure_exists()
    bucket.ensure_exists()
    make_bucket("made-once").ensure_exists()


def test_a_file_is_stored_from_its_path_and_from_an_open_file(bucket: Bucket, key: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    bucket.put_file(key, path)
    assert read(bucket, key) == b"content"
    bucket.put_file(key, io.BytesIO(b"other"))
    assert read(bucket, key) == b"other"


def test_a_big_file_goes_in_parts(bucket: Bucket, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dist_test.storage.results._WHOLE_BYTES", 10)
    content = os.urandom(9 * 2**20)
    bucket.put_file(key, io.BytesIO(content))
    assert read(bucket, key) == content


def test_content_is_read_as_a_stream(bucket: Bucket, key: str) -> None:
    bucket.put_file(key, io.BytesIO(b"0123456789"))
    with bucket.open(key) as stream:
        assert stream.size_bytes == 10
        assert (stream.read(4), stream.read(4), stream.read(4), stream.read(4)) == (b"0123", b"4567", b"89", b"")


def test_an_unknown_key_is_not_found(bucket: Bucket, key: str) -> None:
    assert not bucket.exists(key)
    with pytest.raises(ResultNotFound):
        bucket.open(key)


def test_deleted_objects_are_gone_and_missing_ones_are_no_error(bucket: Bucket, key: str) -> None:
    bucket.put_file(key, io.BytesIO(b"x"))
    bucket.delete([key, f"{key}.missing"])
    assert not bucket.exists(key)
    bucket.delete([])


def test_a_listing_has_the_keys_of_a_prefix_in_order(bucket: Bucket, key: str) -> None:
    for number in (2, 0, 1):
        bucket.put_file(f"{key}/{number}", io.BytesIO(b"x" * number))
    assert [(item.key, item.size_bytes) for item in bucket.list(f"{key}/")] == [(f"{key}/{n}", n) for n in range(3)]


def test_a_link_shows_the_object_under_a_name_and_a_type(bucket: Bucket, key: str) -> None:
    bucket.put_file(key, io.BytesIO(b"content"), content_type="text/plain", disposition="inline")
    response = get(bucket.presign_get(key, filename='a"b\n.txt', content_type="text/plain; charset=utf-8"))
    assert (response.status, response.data) == (200, b"content")
    assert response.headers["Content-Disposition"] == 'inline; filename="a_b_.txt"'
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_a_link_that_was_changed_is_refused(bucket: Bucket, key: str) -> None:
    bucket.put_file(key, io.BytesIO(b"content"))
    url = bucket.presign_get(key)
    assert get(url.replace(key, f"{key}x")).status == 403


def test_a_link_is_signed_for_the_public_address(
    make_bucket: Callable[..., Bucket], seaweedfs: SeaweedFs, key: str
) -> None:
    bucket = make_bucket(public_url=f"http://localhost:{seaweedfs.port}")
    bucket.put_file(key, io.BytesIO(b"content"))
    url = bucket.presign_get(key, seconds=60)
    assert url.startswith(f"http://localhost:{seaweedfs.port}/results/")
    assert get(url).data == b"content"


def test_a_put_link_stores_an_object(bucket: Bucket, key: str) -> None:
    with urllib3.PoolManager() as pool:
        response = pool.request("PUT", bucket.presign_put(key), body=b"content")
    assert response.status == 200
    assert read(bucket, key) == b"content"


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_upload_stores_from_where_the_file_stands(bucket: Bucket, key: str, size: int) -> None:
    content = os.urandom(size)
    source = io.BytesIO(b"before" + content)
    source.seek(6)
    bucket.upload(key, source, size)
    assert read(bucket, key) == content


def test_upload_tries_again_from_the_start(
    bucket: Bucket, make_bucket: Callable[..., Bucket], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    flaky = make_bucket(sleep=pauses.append)
    urls = iter(["http://127.0.0.1:9/refuses", f"{bucket.presign_put(key)}x"])
    presign_put = flaky.presign_put

    def first_two_are_bad(key: str, *, content_type: str) -> str:
        return next(urls, None) or presign_put(key, content_type=content_type)

    monkeypatch.setattr(flaky, "presign_put", first_two_are_bad)
    flaky.upload(key, io.BytesIO(b"content"), 7)
    assert read(bucket, key) == b"content"
    assert pauses == sorted(pauses)
    assert len(pauses) == 2


def test_a_server_that_refuses_or_is_gone_is_unavailable(make_bucket: Callable[..., Bucket], key: str) -> None:
    pauses: list[float] = []
    refused = make_bucket(secret_key="wrong", sleep=pauses.append)
    with pytest.raises(ResultStoreUnavailable) as caught:
        refused.upload(key, io.BytesIO(b"x"), 1)
    assert "Signature" not in str(caught.value)
    assert len(pauses) == 4
    with pytest.raises(ResultStoreUnavailable):
        refused.put_file(key, io.BytesIO(b"x"))
    with pytest.raises(ResultStoreUnavailable):
        refused.exists(key)
    with pytest.raises(ResultStoreUnavailable):
        list(refused.list(key))
    gone = make_bucket(endpoint_url="http://127.0.0.1:9", sleep=pauses.append)
    with pytest.raises(ResultStoreUnavailable):
        gone.upload(key, io.BytesIO(b"x"), 1)
