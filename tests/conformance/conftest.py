"""Servers to talk to: `server` keeps blobs on a disk, `each_server` is that one and one with a bucket."""

import shutil
from collections.abc import Iterator
from typing import cast

import pytest

from ..services.conftest import seaweedfs
from .served import Served, disk_store, s3_store, serving

__all__ = ["seaweedfs"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a store on disk, which all tests share: use content of your own."""
    state = tmp_path_factory.mktemp("isolate-disk")
    with serving(state, disk_store(state)) as served:
        yield served
    shutil.rmtree(state / "store")  # some tests' blobs are large, and pytest keeps directories


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server with a store in a bucket, which all tests share."""
    state = tmp_path_factory.mktemp("isolate-s3")
    with serving(state, s3_store(request.getfixturevalue("seaweedfs"), "conformance")) as served:
        yield served


@pytest.fixture(params=["disk", "s3"])
def each_server(request: pytest.FixtureRequest) -> Served:
    """A server with each kind of store."""
    return cast(Served, request.getfixturevalue({"disk": "server", "s3": "bucket_server"}[request.param]))


@pytest.fixture
def content(request: pytest.FixtureRequest) -> bytes:
    """Content that no other test uses."""
    name: str = request.node.nodeid
    return name.encode() * 10
