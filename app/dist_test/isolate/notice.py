"""Notice of what is about to be deleted from a bucket: how those who delete blobs and those who promise them agree.

1. Who deletes writes the keys into one object, the notice; then looks at the age of each, and deletes those that are
   old; then takes the notice back.
2. Who promises a blob has made it young; then it reads the notice, and if the key is there, waits until it no longer
   is; then it looks whether the blob is there.

Whoever finds no notice in step 2 has made the blob young before its age is looked at in step 1: it stays.

A notice whose writer was killed counts for TERM; nobody writes another before. Should the writer only have been frozen,
it deletes nothing once half of that is over, and the other half is longer than a request may take.
"""

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from dist_test.errors import ResultNotFound, ResultStoreUnavailable
from dist_test.storage.results import Bucket

KEY = "isolate-notice.json"
TERM = timedelta(minutes=4)
_WAIT_SECONDS = 20.0  # a client tries again after that
_POLL_SECONDS = 0.1
_MAX_BYTES = 2**22  # some ten thousand keys


class Notice:
    """The notice of one bucket. Raises ResultStoreUnavailable throughout."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        term: timedelta = TERM,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket = bucket
        self._term = term
        self._clock = clock
        self._sleep = sleep

    @contextmanager
    def given(self, keys: Sequence[str]) -> Iterator[Callable[[], None]]:
        """Give notice of these keys; call what this gives directly before deleting.

        It raises ResultStoreUnavailable when that comes too late. After an error the notice stays: a request that was
        given up may still be carried out.
        """
        while self._keys():
            self._sleep(_POLL_SECONDS)
        began = self._clock()
        self._bucket.put_file(KEY, io.BytesIO(json.dumps(list(keys)).encode()))

        def check() -> None:
            if self._clock() - began > self._term.total_seconds() / 2:
                raise ResultStoreUnavailable("looking at blobs took too long to delete any now; start again")

        yield check
        # Once: a second request that comes late would take the next notice away.
        self._bucket.delete([KEY], once=True)

    def wait_until_over(self, key: str) -> None:
        """Wait while there is a notice of the key. Raises ResultStoreUnavailable after 20 seconds of it."""
        deadline = self._clock() + _WAIT_SECONDS
        while key in self._keys():
            if self._clock() > deadline:
                raise ResultStoreUnavailable(f"{key} may be about to be deleted; try again")
            self._sleep(_POLL_SECONDS)

    def _keys(self) -> Sequence[str]:
        """Of what there is notice at the moment."""
        try:
            written = self._bucket.stat(KEY)
            if datetime.now(UTC) - written.modified_at > self._term:
                return ()
            keys: Sequence[str] = json.loads(self._bucket.read_range(KEY, start=0, size_bytes=_MAX_BYTES))
        except ResultNotFound:
            return ()
        return keys
