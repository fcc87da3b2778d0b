"""Learn from the metadata server that the cloud is about to take this slave's machine away."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import requests

from dist_test.errors import MetadataUnavailable
from dist_test.slave.metadata import FLAVOR, refuse_impostor

logger = logging.getLogger(__name__)

# Compute Engine, "Query VM metadata" and "Preemptible VM instances": TRUE some 30 s before a spot machine is stopped.
PATH = "/computeMetadata/v1/instance/preempted"
WAIT_SECONDS = 60  # how long the server may keep a question; the next one says where this one ended
CONNECT_SECONDS = 5.0
SHORTEST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """etag: what the server calls this value; it answers the next question when the value has another name."""

    is_preempted: bool
    etag: str


class PreemptionWatch:
    """One thread that calls `act`, once, when the metadata server at `url` says that the machine will be taken."""

    def __init__(self, url: str, act: Callable[[], None]) -> None:
        self._url = f"{url}{PATH}"
        self._act = act
        self._stopped = threading.Event()
        # Nobody waits for its end: the server may keep a question for a minute.
        self._thread = threading.Thread(target=self._run, name="preemption", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask no more questions. One that is under way may still lead to a call of `act`."""
        self._stopped.set()

    def _run(self) -> None:
        with requests.Session() as session:
            session.trust_env = False  # as in metadata.py: a proxy would spoil the question
            etag, pause = "", SHORTEST_PAUSE_SECONDS
            while not self._stopped.is_set():
                try:
                    answer = self._ask(session, etag)
                except MetadataUnavailable as exc:
                    logger.warning("A preemption would go unnoticed: %s", exc, extra={"action": "metadata_away"})
                    self._stopped.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                    continue
                if answer.is_preempted:
                    return self._act()
                etag, pause = answer.etag, SHORTEST_PAUSE_SECONDS
                # Nothing is missed meanwhile, and a server that does not wait is not asked without end.
                self._stopped.wait(SHORTEST_PAUSE_SECONDS)
        return None

    def _ask(self, session: requests.Session, etag: str) -> _Answer:
        query = {"wait_for_change": "true", "last_etag": etag, "timeout_sec": str(WAIT_SECONDS)} if etag else {}
        timeout = (CONNECT_SECONDS, WAIT_SECONDS + CONNECT_SECONDS)
        try:
            response = session.get(self._url, params=query, headers=FLAVOR, timeout=timeout, allow_redirects=False)
        except requests.RequestException as exc:
            raise MetadataUnavailable(f"the metadata server at {self._url} did not answer: {exc}") from exc
        refuse_impostor(response, "slave.metadata_url")
        return _Answer(is_preempted=response.text.strip() == "TRUE", etag=response.headers.get("ETag", ""))
