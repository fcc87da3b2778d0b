"""The S3 bucket: logs, artifacts, and the blobs of an isolate server that keeps them there."""

import functools
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from dist_test.errors import ResultNotFound, ResultStoreUnavailable
from dist_test.settings import AwsSettings

if TYPE_CHECKING:
    import urllib3
    from types_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

LINK_SECONDS = 86400  # as long as the original's links worked
_PAUSES = tuple(timedelta(seconds=pause) for pause in (0.2, 1, 3, 8))  # a restart of the server takes less
_CONNECTIONS = 32
_DELETE_BATCH = 1000  # S3's limit for one DeleteObjects
_WHOLE_BYTES = 64 * 2**20  # bigger files go in parts
_COPY_BYTES = 5 * 2**30  # S3's limit for one CopyObject
_TRIES = 5
_PRESIGNED_PUT_SECONDS = 900
_OCTETS = "application/octet-stream"
_ABSENT = {"404", "NoSuchKey", "NotFound"}


class ObjectStream:
    """An object's content, read as it arrives. Close it, or use it as a context."""

    def __init__(self, body: Any, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._body = body

    def read(self, size: int | None = None) -> bytes:
        """The next `size` bytes at most, all that is left for None. Raises ResultStoreUnavailable."""
        with _translated("reading an object"):
            content: bytes = self._body.read(size)
            return content

    def close(self) -> None:
        self._body.close()

    def __enter__(self) -> "ObjectStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """What S3 says about one object. modified_at: by the server's clock, in whole seconds on some."""

    key: str
    size_bytes: int
    modified_at: datetime


class Bucket:
    """One bucket of an S3 server; may be shared between threads.

    endpoint_url: None for Amazon's. public_url: the server's address in the links that `presign_get` makes, where
    people reach it by another one. Every method raises ResultStoreUnavailable when the server refuses or is silent.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint_url: str | None,
        access_key: str,
        secret_key: str,
        region: str = "us-east-1",
        public_url: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._endpoint_url = endpoint_url
        self._public_url = public_url
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._sleep = sleep
        self._lock = threading.Lock()
        self._clients: dict[tuple[str | None, int], S3Client] = {}

    @classmethod
    def of(cls, settings: AwsSettings) -> Self:
        """The bucket that is configured."""
        return cls(
            settings.bucket,
            endpoint_url=settings.endpoint_url,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            region=settings.region,
            public_url=settings.public_url,
        )

    def ensure_exists(self) -> None:
        """Create the bucket unless it is there."""
        if self._exists(lambda: self._client.head_bucket(Bucket=self.name)):
            return
        with _translated(f"creating bucket {self.name}"):
            try:
                self._client.create_bucket(Bucket=self.name)
            except (self._client.exceptions.BucketAlreadyOwnedByYou, self._client.exceptions.BucketAlreadyExists):
                logger.debug("another program created bucket %s first", self.name)

    def put_file(
        self, key: str, source: Path | IO[bytes], *, content_type: str = _OCTETS, disposition: str | None = None
    ) -> None:
        """Store a file, from its path or from where an open one stands to its end; big ones go in parts."""
        if isinstance(source, Path):
            with source.open("rb") as stream:
                self.put_file(key, stream, content_type=content_type, disposition=disposition)
            return
        extra = {"ContentType": content_type}
        if disposition is not None:
            extra["ContentDisposition"] = disposition
        with _translated(f"storing {key}"):
            if _size_left(source) <= _WHOLE_BYTES:
                # type: the stubs know every keyword's own type, but not those of a dict's values
                self._client.put_object(Bucket=self.name, Key=key, Body=source, **extra)  # type: ignore[arg-type]
            else:
                self._client.upload_fileobj(source, self.name, key, ExtraArgs=extra)

    def open(self, key: str) -> ObjectStream:
        """The object's content as a stream. Raises ResultNotFound."""
        with _translated(f"opening {key}"):
            answer = self._client.get_object(Bucket=self.name, Key=key)
        return ObjectStream(answer["Body"], answer["ContentLength"])

    def read_range(self, key: str, *, start: int, size_bytes: int) -> bytes:
        """At most `size_bytes`, 1 or more, of an object from `start` on. Raises ResultNotFound."""
        end = start + size_bytes - 1
        with _translated(f"reading {key}"):
            answer = self._client.get_object(Bucket=self.name, Key=key, Range=f"bytes={start}-{end}")
            with ObjectStream(answer["Body"], answer["ContentLength"]) as stream:
                return stream.read(size_bytes)

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        return self._exists(lambda: self._client.head_object(Bucket=self.name, Key=key))

    def delete(self, keys: Iterable[str], *, once: bool = False) -> None:
        """Delete these objects; those that are not there count as deleted.

        `once`: no request is sent a second time, so that nothing is deleted that was stored after the first.
        """
        client = self._client_for(self._endpoint_url, tries=1 if once else _TRIES)
        left = list(keys)
        while left:
            batch, left = left[:_DELETE_BATCH], left[_DELETE_BATCH:]
            with _translated(f"deleting {len(batch)} objects"):
                answer = client.delete_objects(
                    Bucket=self.name, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            failed = [error for error in answer.get("Errors", []) if error.get("Code") not in _ABSENT]
            if failed:
                raise ResultStoreUnavailable(f"{len(failed)} objects could not be deleted: {failed[0]}")

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose keys start with `prefix`, in the order of their keys."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        with _translated(f"listing {prefix}"):
            for page in pages:
                for item in page.get("Contents", []):
                    yield StoredObject(key=item["Key"], size_bytes=item["Size"], modified_at=item["LastModified"])

    def folders(self) -> Iterator[str]:
        """What stands before the first slash of the keys, each once, in order."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Delimiter="/")
        with _translated("listing what comes before the first slash"):
            for page in pages:
                for item in page.get("CommonPrefixes", []):
                    yield item["Prefix"].removesuffix("/")

    def stat(self, key: str) -> StoredObject:
        """What S3 says about one object. Raises ResultNotFound."""
        with _translated(f"looking at {key}"):
            answer = self._client.head_object(Bucket=self.name, Key=key)
        return StoredObject(key=key, size_bytes=answer["ContentLength"], modified_at=answer["LastModified"])

    def renew(self, stored: StoredObject) -> None:
        """Make the object as young as if it had just been stored, without sending it. Raises ResultNotFound."""
        with _translated(f"renewing {stored.key}"):
            if stored.size_bytes > _COPY_BYTES:
                source = {"Bucket": self.name, "Key": stored.key}
                extra = {"MetadataDirective": "REPLACE", "ContentType": _OCTETS}
                # type: boto3 reads a dict here; the stubs ask for one of their own
                self._client.copy(source, self.name, stored.key, ExtraArgs=extra)  # type: ignore[arg-type]
                return
            # S3 copies an object onto itself only if something about it is said anew.
            self._client.copy_object(
                Bucket=self.name,
                Key=stored.key,
                CopySource={"Bucket": self.name, "Key": stored.key},
                MetadataDirective="REPLACE",
                ContentType=_OCTETS,
            )

    def presign_get(
        self,
        key: str,
        *,
        seconds: int = LINK_SECONDS,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """A link that anybody can read the object with, for so many seconds; at `public_url` if there is one.

        filename: the name under which a browser saves it; shown in the browser all the same. Does not ask the server.
        """
        params = {"Bucket": self.name, "Key": key}
        if filename is not None:
            params["ResponseContentDisposition"] = f'inline; filename="{_quoted(filename)}"'
        if content_type is not None:
            params["ResponseContentType"] = content_type
        return self._link_client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)

    def presign_put(self, key: str, *, seconds: int = _PRESIGNED_PUT_SECONDS, content_type: str | None = None) -> str:
        """A link that anybody can store this object with, by PUT with exactly this Content-Type, at `endpoint_url`."""
        params = {"Bucket": self.name, "Key": key}
        if content_type is not None:
            params["ContentType"] = content_type
        return self._client.generate_presigned_url("put_object", Params=params, ExpiresIn=seconds)

    def upload(self, key: str, source: IO[bytes], size_bytes: int, *, content_type: str = _OCTETS) -> None:
        """Store `size_bytes` from where a seekable file stands: faster than put_file for small ones.

        Tries five times, with growing pauses.
        """
        start = source.tell()
        for pause in _PAUSES:
            try:
                return self._put(key, source, size_bytes, content_type)
            except ResultStoreUnavailable as exc:
                logger.warning("storing %s again in %s s: %s", key, pause.total_seconds(), exc)
                self._sleep(pause.total_seconds())
                source.seek(start)
        return self._put(key, source, size_bytes, content_type)

    def _put(self, key: str, source: IO[bytes], size_bytes: int, content_type: str) -> None:
        from urllib3.exceptions import HTTPError

        headers = {"Content-Type": content_type, "Content-Length": str(size_bytes)}
        url = self.presign_put(key, content_type=content_type)
        try:
            response = self._pool.request("PUT", url, body=source, headers=headers, retries=False)
        except HTTPError as exc:
            # Not the exception's own text: it names the signed address.
            raise ResultStoreUnavailable(f"storing {key} in bucket {self.name} failed: {type(exc).__name__}") from exc
        if response.status >= 300:
            raise ResultStoreUnavailable(f"storing {key} in bucket {self.name} was answered {response.status}")

    def _exists(self, look: Callable[[], object]) -> bool:
        try:
            with _translated(f"looking into bucket {self.name}"):
                look()
        except ResultNotFound:
            return False
        return True

    @functools.cached_property
    def _pool(self) -> "urllib3.PoolManager":
        import urllib3

        return urllib3.PoolManager(
            maxsize=_CONNECTIONS, timeout=urllib3.Timeout(connect=10, read=60), cert_reqs="CERT_REQUIRED"
        )

    @property
    def _client(self) -> "S3Client":
        return self._client_for(self._endpoint_url)

    @property
    def _link_client(self) -> "S3Client":
        return self._client_for(self._public_url or self._endpoint_url)

    def _client_for(self, endpoint_url: str | None, *, tries: int = _TRIES) -> "S3Client":
        # boto3 may be used, but not set up, by several threads at once.
        with self._lock:
            if (endpoint_url, tries) not in self._clients:
                self._clients[endpoint_url, tries] = self._make_client(endpoint_url, tries)
            return self._clients[endpoint_url, tries]

    def _make_client(self, endpoint_url: str | None, tries: int) -> "S3Client":
        # boto3 takes 0.2 s to import: only programs that touch the bucket should pay.
        import boto3
        from botocore.config import Config

        config = Config(
            signature_version="s3v4",
            max_pool_connections=_CONNECTIONS,
            connect_timeout=10,
            read_timeout=60,
            retries={"total_max_attempts": tries, "mode": "standard"},
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            # Other servers than Amazon's do not all know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        session = boto3.session.Session(
            aws_access_key_id=self._access_key, aws_secret_access_key=self._secret_key, region_name=self._region
        )
        return session.client("s3", endpoint_url=endpoint_url, config=config)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as exc:
        if exc.response.get("Error", {}).get("Code") in _ABSENT:
            raise ResultNotFound(f"{doing}: there is no such object") from exc
        raise ResultStoreUnavailable(f"{doing}: {exc}") from exc
    except (BotoCoreError, Boto3Error, HTTPError) as exc:
        raise ResultStoreUnavailable(f"{doing}: {exc}") from exc


def _size_left(stream: IO[bytes]) -> int:
    here = stream.tell()
    end = stream.seek(0, os.SEEK_END)
    stream.seek(here, io.SEEK_SET)
    return end - here


def _quoted(filename: str) -> str:
    return filename.replace("\\", "_").replace('"', "_").replace("\r", "_").replace("\n", "_")
