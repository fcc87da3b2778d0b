"""The client of an isolate server, in the v1 protocol that Go and later Python clients speak too."""

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import requests
import requests.adapters
import urllib3.exceptions

from dist_test.errors import BlobNotFound, DigestMismatch, IsolateError, IsolateServerUnavailable
from dist_test.isolate.blob import LocalBlob
from dist_test.isolate.format import MAX_ISOLATED_BYTES
from dist_test.isolate.stored_form import Decoder, check_namespace, encode

logger = logging.getLogger(__name__)

_API = "/_ah/api/isolateservice/v1/"
_PAUSES = (timedelta(seconds=0.5), timedelta(seconds=2))  # before the second and the third try
_CONNECTIONS = 16
_PUSHES_AT_ONCE = 8
_LOOKUP_BATCH = 500  # the server takes 1000
_INLINE_BYTES = 2**20  # above that, a blob goes as a stream and is never whole in memory
_CHUNK_BYTES = 2**17
_BAD_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)

Progress = Callable[[int, int, int, int], None]
"""Called with done_bytes, total_bytes, done_blobs, total_blobs; from any thread, one at a time."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class MissingBlob:
    """A blob that the server lacks, and its leave to send it: inside a JSON document, or to upload_url if given."""

    blob: LocalBlob
    ticket: str = field(repr=False)
    upload_url: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """What an upload found: `hits` were there already, `misses` were sent."""

    hits: int
    hit_bytes: int
    misses: int
    missed_bytes: int


class IsolateClient:
    """Talks to one isolate server about one namespace; may be shared between threads.

    Everything is tried three times. Every method raises IsolateServerUnavailable when that was in vain, and
    IsolateError when the server understood and refused.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "default-gzip",
        timeout_seconds: float = 60,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`timeout_seconds` is the longest silence of the server that is waited for."""
        self.url = url.rstrip("/")
        self._namespace = check_namespace(namespace)
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        self._session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def contains(self, blobs: Sequence[LocalBlob]) -> list[MissingBlob]:
        """Which of these blobs (at most 1000) the server lacks, each with leave to send it."""
        items = [{"digest": b.digest, "size": b.size_bytes, "is_isolated": b.is_isolated} for b in blobs]
        answer = self._call("preupload", {"items": items, "inline_limit": _INLINE_BYTES})
        return [_missing(item, blobs) for item in answer.get("items") or []]

    def push(self, missing: MissingBlob) -> None:
        """Send one blob that `contains` found missing.

        Raises DigestMismatch when the file has changed since it was hashed, IsolateError when it cannot be read.
        """
        if missing.upload_url:
            self._retrying(lambda: self._put(missing, missing.upload_url or ""))
            self._call("finalize_gs_upload", {"upload_ticket": missing.ticket}, with_namespace=False)
            return
        stored = b"".join(encode(self._namespace, _checked_pieces(missing.blob)))
        content = base64.b64encode(stored).decode("ascii")
        self._call("store_inline", {"upload_ticket": missing.ticket, "content": content}, with_namespace=False)

    def upload(self, blobs: Iterable[LocalBlob], progress: Progress | None = None) -> Uploaded:
        """Send those of the blobs that the server lacks, several at once; stop at the first error."""
        return _Upload(self, list({blob.digest: blob for blob in blobs}.values()), progress).run()

    def fetch(
        self,
        digest: str,
        destination: Path,
        *,
        size_bytes: int | None = None,
        limit_bytes: int | None = MAX_ISOLATED_BYTES,
    ) -> int:
        """Write a blob's content to a file, which is overwritten in place, and return its size.

        size_bytes: the size it must have; None: whatever it has, up to limit_bytes, if that is not None either.
        Raises BlobNotFound, and DigestMismatch when the server sent something else three times.
        """

        def fetch_once() -> int:
            return self._fetch_once(
                digest, destination, Decoder(self._namespace, digest, size_bytes, limit_bytes=limit_bytes)
            )

        return self._retrying(fetch_once)

    def _fetch_once(self, digest: str, destination: Path, decoder: Decoder) -> int:
        answer = self._post("retrieve", {"digest": digest, "namespace": {"namespace": self._namespace}})
        with destination.open("wb") as target:
            if answer.get("url"):
                self._fetch_stream(str(answer["url"]), decoder, target)
            else:
                target.writelines(decoder.feed(_base64(answer.get("content", ""))))
            return decoder.finish()

    def _fetch_stream(self, url: str, decoder: Decoder, target: BinaryIO) -> None:
        with self._session.get(url, timeout=self._timeout_seconds, stream=True) as response:
            _check_status(response)
            # The raw stream: requests would undo a Content-Encoding that a proxy claims for our zlib data.
            while chunk := response.raw.read(_CHUNK_BYTES):
                target.writelines(decoder.feed(chunk))

    def _put(self, missing: MissingBlob, url: str) -> None:
        body = encode(self._namespace, _checked_pieces(missing.blob))
        headers = {"Content-Type": "application/octet-stream"}
        _check_status(self._session.put(url, data=body, headers=headers, timeout=self._timeout_seconds))

    def _call(self, method: str, request: dict[str, Any], *, with_namespace: bool = True) -> dict[str, Any]:
        if with_namespace:
            request = {**request, "namespace": {"namespace": self._namespace}}
        return self._retrying(lambda: self._post(method, request))

    def _post(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        response = self._session.post(
            self.url + _API + method,
            data=json.dumps(request).encode(),
            headers={"Content-Type": "application/json"},
            timeout=self._timeout_seconds,
        )
        _check_status(response)
        answer = response.json()
        if not isinstance(answer, dict):
            raise IsolateServerUnavailable(f"{self.url} does not answer like an isolate server: {answer!r:.100}")
        return answer

    def _retrying(self, act: Callable[[], _T]) -> _T:
        for pause in _PAUSES:
            try:
                return self._translated(act)
            except (IsolateServerUnavailable, DigestMismatch) as exc:
                logger.debug("trying the isolate server again in %s s: %s", pause.total_seconds(), exc)
                self._sleep(pause.total_seconds())
        return self._translated(act)

    def _translated(self, act: Callable[[], _T]) -> _T:
        try:
            return act()
        except _BAD_ADDRESS as exc:
            raise IsolateError(
                f"{self.url} is not an address; give one such as http://isolate.example.com:4242"
            ) from exc
        except requests.exceptions.SSLError as exc:
            raise IsolateError(
                f"the isolate server {self.url} cannot be trusted: {exc}; "
                "a file with its certificate, named by REQUESTS_CA_BUNDLE, makes it so"
            ) from exc
        except (requests.RequestException, urllib3.exceptions.HTTPError, _TransportError) as exc:
            raise IsolateServerUnavailable(f"the isolate server {self.url} failed: {exc}") from exc


class _Upload:
    """One upload: looks up the blobs in batches, and sends what is missing while the next batches are looked up."""

    def __init__(self, client: IsolateClient, blobs: Sequence[LocalBlob], progress: Progress | None) -> None:
        self._client = client
        # The biggest first: otherwise one that is met last is sent alone at the end.
        self._blobs = sorted(blobs, key=lambda blob: -blob.size_bytes)
        self._progress = progress
        self._lock = threading.Lock()
        self._total_bytes = sum(blob.size_bytes for blob in blobs)
        self._done_bytes = self._done_blobs = self._missed_bytes = self._misses = 0

    def run(self) -> Uploaded:
        self._report([])
        with ThreadPoolExecutor(_PUSHES_AT_ONCE, thread_name_prefix="upload") as pool:
            try:
                _wait_for([pool.submit(self._push, missing) for missing in self._missing()])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        hits, hit_bytes = len(self._blobs) - self._misses, self._total_bytes - self._missed_bytes
        return Uploaded(hits=hits, hit_bytes=hit_bytes, misses=self._misses, missed_bytes=self._missed_bytes)

    def _missing(self) -> Iterator[MissingBlob]:
        for start in range(0, len(self._blobs), _LOOKUP_BATCH):
            batch = self._blobs[start : start + _LOOKUP_BATCH]
            missing = self._client.contains(batch)
            self._misses += len(missing)
            self._missed_bytes += sum(item.blob.size_bytes for item in missing)
            lacking = {item.blob.digest for item in missing}
            self._report([blob for blob in batch if blob.digest not in lacking])
            yield from missing

    def _push(self, missing: MissingBlob) -> None:
        self._client.push(missing)
        self._report([missing.blob])

    def _report(self, done: Sequence[LocalBlob]) -> None:
        with self._lock:
            self._done_bytes += sum(blob.size_bytes for blob in done)
            self._done_blobs += len(done)
            if self._progress is not None:
                self._progress(self._done_bytes, self._total_bytes, self._done_blobs, len(self._blobs))


class _TransportError(Exception):
    """The connection or the server broke down; the same request may succeed later."""


def _wait_for(futures: Sequence[Future[None]]) -> None:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()


def _missing(item: dict[str, Any], blobs: Sequence[LocalBlob]) -> MissingBlob:
    try:
        # Servers of Endpoints write 64-bit numbers as texts, and leave a 0 out.
        blob = blobs[int(item.get("index", 0))]
        return MissingBlob(blob=blob, ticket=item["upload_ticket"], upload_url=item.get("gs_upload_url") or None)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as exc:
        raise IsolateError(f"the isolate server answered something else than missing blobs: {item!r:.200}") from exc


def _checked_pieces(blob: LocalBlob) -> Iterator[bytes]:
    """The blob's content, and DigestMismatch at its end when the file has changed since it was hashed."""
    check = Decoder("", blob.digest, blob.size_bytes)
    try:
        for piece in blob.pieces():
            check.check(piece)
            yield piece
    except OSError as exc:
        raise IsolateError(f"{blob.name} cannot be read: {exc.strerror}") from exc
    try:
        check.finish()
    except DigestMismatch as exc:
        raise DigestMismatch(f"{blob.name} changed while it was being archived; archive again") from exc


def _check_status(response: requests.Response) -> None:
    if response.status_code < 400:
        return
    reason = f"{response.status_code} {_reason(response)}"
    if response.status_code == 404:
        raise BlobNotFound(f"the isolate server does not have it: {reason}")
    if response.status_code in (408, 429) or response.status_code >= 500:
        raise _TransportError(reason)
    raise IsolateError(f"the isolate server refused: {reason}")


def _reason(response: requests.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.reason or ""


def _base64(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (ValueError, TypeError) as exc:
        raise DigestMismatch(f"the isolate server sent content that is not base64: {exc}") from exc
