"""Download logs and artifacts into a directory that holds nothing else: scripts go through all that is in it."""

import errno
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import requests
import requests.adapters

from dist_test.cli.archive import unpack
from dist_test.cli.clock import Clock
from dist_test.cli.records import Attempt
from dist_test.errors import ConfigurationError, DistTestError, ResultNotFound, ResultStoreUnavailable

_THREADS = 8
_PAUSES_SECONDS = (1, 4)  # before the second and the third try
_CHUNK_BYTES = 2**18
_UNSAFE = re.compile(r"[^A-Za-z0-9]")
_LONGEST_NAME = 200  # of the 255 bytes that file systems allow
_GONE = (403, 404, 410)  # expired links are answered 403


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file to fetch: `path` is where it ends, and an artifacts' zip is unpacked to the path without `.zip`."""

    url: str = field(repr=False)
    path: Path
    is_archive: bool = False

    @property
    def unpacked(self) -> Path:
        return self.path.with_suffix("")


@dataclass(kw_only=True)
class Fetched:
    """What came of the downloads so far."""

    new: int = 0
    present: int = 0
    problems: list[str] = field(default_factory=list)


class _StoppedError(Exception):
    """The user pressed Ctrl-C while this was being downloaded."""


def downloads_of(attempt: Attempt, directory: Path, *, logs: bool, artifacts: bool) -> Iterator[Download]:
    """What there is to fetch of an attempt, under the original's names."""
    base = f"{_safe(attempt.task_id)}.{attempt.attempt}.{_safe(attempt.description)}"[:_LONGEST_NAME]
    if logs and attempt.stdout_url:
        yield Download(url=attempt.stdout_url, path=directory / f"{base}.stdout")
    if logs and attempt.stderr_url:
        yield Download(url=attempt.stderr_url, path=directory / f"{base}.stderr")
    if artifacts and attempt.artifacts_url:
        yield Download(url=attempt.artifacts_url, path=directory / f"{base}.zip", is_archive=True)


class Downloader:
    """Fetches files into one directory, several at once. Use it as a context: it keeps half files aside until then.

    A file appears under its name when it is complete; what is there already is left alone.
    """

    def __init__(self, directory: Path, *, clock: Clock, timeout_seconds: float) -> None:
        self.directory = directory
        self.fetched = Fetched()
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")
        self._session = requests.Session()
        # Presigned links bear their own proof: S3 refuses a second one, such as ~/.netrc would add.
        self._session.auth = _no_credentials
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_THREADS))

    def __enter__(self) -> "Downloader":
        """Make the directory. Raises ConfigurationError when that fails."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # Hidden, so that a shell's `*` passes it by, and inside, since a rename must not cross file systems.
            self._aside = Path(tempfile.mkdtemp(prefix=".dist-test-fetch-", dir=self.directory))
        except OSError as exc:
            raise ConfigurationError(
                f"cannot write to {self.directory}: {exc.strerror}; choose another --output-dir"
            ) from exc
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self._session.close()
        shutil.rmtree(self._aside, ignore_errors=True)

    def fetch(self, downloads: Sequence[Download], done: Callable[[], None]) -> None:
        """Fetch these files; call `done` after each. Problems are collected in `fetched`, one sentence each."""
        for future in [self._pool.submit(self._fetch, download) for download in downloads]:
            self._count(future.result())
            done()

    def _count(self, outcome: bool | str) -> None:
        if isinstance(outcome, str):
            self.fetched.problems.append(outcome)
        elif outcome:
            self.fetched.new += 1
        else:
            self.fetched.present += 1

    def _fetch(self, download: Download) -> bool | str:
        """True: it is there now; False: it was before; a text: what went wrong."""
        aside = self._aside / download.path.name
        try:
            is_new = not _exists(download.path)
            if is_new:
                self._download(download, aside)
                aside.rename(download.path)
            if download.is_archive and not _exists(download.unpacked):
                unpack(download.path, aside)
                is_new = _appear(aside, download.unpacked)
        except OSError as exc:
            return f"{download.path.name} cannot be written: {exc.strerror or exc}"
        except DistTestError as exc:
            return str(exc)
        return is_new

    def _download(self, download: Download, aside: Path) -> None:
        for pause in _PAUSES_SECONDS:
            try:
                return self._download_once(download, aside)
            except ResultStoreUnavailable:
                self._clock.sleep(pause)
        return self._download_once(download, aside)

    def _download_once(self, download: Download, aside: Path) -> None:
        name = download.path.name
        try:
            with self._session.get(download.url, stream=True, timeout=self._timeout_seconds) as response:
                if response.status_code in _GONE:
                    raise ResultNotFound(f"{name} is no longer there ({response.status_code} {response.reason})")
                response.raise_for_status()
                with aside.open("wb") as target:
                    for chunk in response.iter_content(_CHUNK_BYTES):
                        target.write(chunk)
                        if self._stop.is_set():
                            raise _StoppedError
        # The links are secrets for a day, so only the kind of the error is told.
        except requests.HTTPError as exc:
            status = exc.response.status_code if exc.response is not None else "an error"
            raise ResultStoreUnavailable(f"{name} cannot be downloaded: the store answered {status}") from exc
        except requests.RequestException as exc:
            raise ResultStoreUnavailable(f"{name} cannot be downloaded: {type(exc).__name__}; try again") from exc


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)


def _appear(aside: Path, directory: Path) -> bool:
    """Give an unpacked directory its name; False when another fetch has been here first: then that one's stays."""
    try:
        aside.rename(directory)
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
