"""The slave's only request to the master: queue the attempt after a failed one."""

import json
import threading

import requests
from requests.auth import HTTPDigestAuth

from dist_test.errors import MasterRefused, MasterUnavailable
from dist_test.slave.holdings import Holding

TRIES = 3


class MasterClient:
    """Asks with the slave's credentials, by HTTP Digest when the master wants them."""

    def __init__(self, url: str, *, user: str | None, password: str | None, timeout_seconds: float) -> None:
        self._url = f"{url}/retry_task"
        self._auth = HTTPDigestAuth(user, password or "") if user else None
        self._timeout = timeout_seconds
        self._local = threading.local()

    def ask(self, holding: Holding) -> None:
        """Ask that the next attempt of this task is queued. Raises MasterUnavailable, MasterRefused."""
        entry = holding.entry
        document = {
            "job_id": entry.job_id,
            "task_id": entry.task_id,
            "attempt": entry.key.attempt,
            "claim": holding.claim.number,
        }
        for attempt in range(TRIES):
            try:
                return self._post({"task_json": json.dumps(document)})
            except MasterUnavailable:
                if attempt == TRIES - 1:
                    raise
        return None

    def _post(self, form: dict[str, str]) -> None:
        try:
            response = self._session().post(self._url, data=form, auth=self._auth, timeout=self._timeout)
        except requests.RequestException as exc:
            raise MasterUnavailable(f"the master at {self._url} did not answer: {exc}") from exc
        if response.status_code >= 500:
            raise MasterUnavailable(f"the master at {self._url} answered {response.status_code}")
        if response.status_code >= 400:
            raise MasterRefused(f"the master at {self._url} answered {response.status_code}: {response.text[:200]}")

    def _session(self) -> requests.Session:
        # requests' sessions keep a connection, but are not made for several threads.
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        session: requests.Session = self._local.session
        return session
