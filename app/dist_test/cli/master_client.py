"""Talks to the master's `/api/v1`, patiently: a master may be restarted while we wait for it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import requests
from requests.auth import HTTPDigestAuth

from dist_test.cli.clock import Clock
from dist_test.cli.records import Attempt, Job, LogPart
from dist_test.errors import (
    ConfigurationError,
    DistTestError,
    InvalidJob,
    JobConflict,
    JobNotFound,
    JobNotRerun,
    JobNotRunning,
    MasterRefused,
    MasterUnavailable,
    TaskNotFound,
)
from dist_test.settings import ClientSettings

PATIENCE = timedelta(seconds=50)  # what the original's client had: ten tries, five seconds apart
WATCH_PATIENCE = timedelta(minutes=10)  # long enough for a master's host to be replaced
ATTEMPTS_PER_PAGE = 1000

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_RETRY_AFTER_SECONDS = 60
_TOO_MANY_REQUESTS = 429
_ERRORS: Mapping[str, type[DistTestError]] = {
    "invalid_job": InvalidJob,
    "not_found": JobNotFound,
    "conflict": JobConflict,
    "job_not_running": JobNotRunning,
    "job_not_rerun": JobNotRerun,
}


@dataclass(frozen=True, kw_only=True)
class JobPage:
    """Some jobs, newest first, and the cursor of the page after it: None when this is the last."""

    jobs: tuple[Job, ...]
    next: str | None


class _Trouble(Exception):
    """The request failed in a way that may pass."""

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class MasterClient:
    """One master. Not to be shared between threads.

    Every method tries again for as long as `patience` says when the master does not answer or answers 5xx, tells
    `report` once that it is away and once that it is back, and then raises MasterUnavailable. Each raises
    MasterRefused for what the master will not do, JobNotFound where it takes a job id.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        report: Callable[[str], None],
        credentials: tuple[str, str] | None = None,
        timeout_seconds: float = 60,
        patience: timedelta = PATIENCE,
    ) -> None:
        """`timeout_seconds` is the longest silence of the master in the middle of one request."""
        self.url = url
        self.patience = patience
        self._clock = clock
        self._report = report
        self._timeout_seconds = timeout_seconds
        self._user = credentials[0] if credentials else None
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json"
        if credentials:
            self._session.auth = HTTPDigestAuth(*credentials)

    @classmethod
    def from_settings(cls, settings: ClientSettings, *, clock: Clock, report: Callable[[str], None]) -> "MasterClient":
        """The client of the master that is configured. Raises ConfigurationError when none is."""
        if settings.master is None:
            where = settings.path or "~/.dist_test.cnf"
            raise ConfigurationError(
                "no master is configured; set DIST_TEST_MASTER to its address,"
                f" or master in section [dist_test] of {where}"
            )
        return cls(
            settings.master,
            clock=clock,
            report=report,
            credentials=(settings.user, settings.password or "") if settings.user else None,
            timeout_seconds=settings.url_timeout_seconds,
        )

    def submit(self, document: Mapping[str, Any]) -> Job:
        """Submit a job; submitting the very same again changes nothing. Raises InvalidJob, JobConflict too."""
        return Job.from_json(self._ask("POST", "/api/v1/jobs", json=document))

    def job(self, job_id: str) -> Job:
        """The job as it stands."""
        return Job.from_json(self._ask("GET", _job_path(job_id)))

    def jobs(self, *, limit: int, before: str | None = None) -> JobPage:
        """The newest jobs; `before` is the cursor of an earlier page."""
        answer = self._ask("GET", "/api/v1/jobs", params={"limit": limit, "before": before})
        return JobPage(jobs=tuple(Job.from_json(item) for item in _list(answer, "jobs")), next=answer.get("next"))

    def cancel(self, job_id: str, reason: str | None) -> Job:
        """Cancel the job. Raises JobNotRunning when it has ended, be it because it was canceled before."""
        body = {} if reason is None else {"reason": reason}
        return Job.from_json(self._ask("POST", f"{_job_path(job_id)}/cancel", json=body))

    def rerun(self, job_id: str) -> Job:
        """The job that runs again what failed in this one, submitted now or before. Raises JobNotRerun."""
        return Job.from_json(self._ask("POST", f"{_job_path(job_id)}/rerun", json={}))

    def attempt_pages(
        self, job_id: str, *, state: str, limit: int = ATTEMPTS_PER_PAGE
    ) -> Iterator[tuple[Attempt, ...]]:
        """The attempts in this state (as the API names it), a page at a time, by task and attempt.

        A page is asked for when it is wanted, so that its links are fresh.
        """
        cursor = None
        while True:
            params = {"state": state, "limit": limit, "after": cursor}
            answer = self._ask("GET", f"{_job_path(job_id)}/attempts", params=params)
            yield tuple(Attempt.from_json(item) for item in _list(answer, "attempts"))
            cursor = answer.get("next")
            if cursor is None:
                return

    def attempts(self, job_id: str, *, state: str) -> Iterator[Attempt]:
        """As attempt_pages, one by one."""
        for page in self.attempt_pages(job_id, state=state):
            yield from page

    def tasks(self, job_id: str, description: str) -> dict[str, str]:
        """The tasks whose description has this in it: their descriptions by their ids."""
        found: dict[str, str] = {}
        cursor = None
        while True:
            params = {"q": description, "limit": ATTEMPTS_PER_PAGE, "after": cursor}
            answer = self._ask("GET", f"{_job_path(job_id)}/attempts", params=params)
            attempts = [Attempt.from_json(item) for item in _list(answer, "attempts")]
            # The master also finds what ran on a slave of this name.
            found |= {item.task_id: item.description for item in attempts if description in item.description}
            cursor = answer.get("next")
            if cursor is None:
                return found

    def log(self, job_id: str, task: str, *, stream: str, attempt: int | None, offset: int) -> LogPart:
        """A piece of a log from `offset` on; `task` is an id or a place. Raises TaskNotFound, not JobNotFound."""
        path = f"{_job_path(job_id)}/tasks/{quote(task, safe='')}/log"
        params = {"stream": stream, "attempt": attempt, "offset": offset, "encoding": "base64"}
        try:
            return LogPart.from_json(self._ask("GET", path, params=params))
        except JobNotFound as exc:
            raise TaskNotFound(str(exc)) from exc

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        give_up_at = self._clock.now() + self.patience.total_seconds()
        pause = _FIRST_PAUSE_SECONDS
        is_away = False
        while True:
            try:
                answer = self._ask_once(method, path, **options)
            except _Trouble as trouble:
                wait = trouble.retry_after_seconds or pause
                if self._clock.now() + wait > give_up_at:
                    raise MasterUnavailable(f"the master {self.url} is away: {trouble}") from trouble.__cause__
                if not is_away:
                    self._report(f"the master {self.url} is away ({trouble}); trying for {_minutes(self.patience)}")
                is_away = True
            else:
                if is_away:
                    self._report("the master is back")
                return answer
            self._clock.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _ask_once(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._session.request(method, self.url + path, timeout=self._timeout_seconds, **options)
        except requests.exceptions.SSLError as exc:
            raise MasterRefused(
                f"the master {self.url} cannot be trusted: {_reason(exc)}; "
                "a file with its certificate, named by REQUESTS_CA_BUNDLE, makes it so"
            ) from exc
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
        ) as exc:
            raise _Trouble(_reason(exc)) from exc
        except requests.RequestException as exc:
            raise MasterRefused(f"cannot ask the master {self.url}: {exc}") from exc
        return self._read(response)

    def _read(self, response: requests.Response) -> dict[str, Any]:
        document = _json(response)
        if response.ok and isinstance(document, dict):
            return document
        error = document.get("error") if isinstance(document, dict) else None
        if response.status_code >= 500 or response.status_code == _TOO_MANY_REQUESTS:
            raise _Trouble(_message(error) or _status_line(response), _retry_after(response))
        if response.status_code == requests.codes.unauthorized:
            raise MasterRefused(self._unauthorized())
        if not isinstance(error, dict):
            raise MasterRefused(
                f"{self.url} does not answer like a dist_test master ({_status_line(response)});"
                " is DIST_TEST_MASTER right?"
            )
        raise _ERRORS.get(str(error.get("code")), MasterRefused)(_message(error) or _status_line(response))

    def _unauthorized(self) -> str:
        if self._user is None:
            return (
                f"the master {self.url} wants a user and a password;"
                " set DIST_TEST_USER and DIST_TEST_PASSWORD, or user and password in section [dist_test]"
            )
        return f"the master {self.url} does not accept the user {self._user} with this password"


def _job_path(job_id: str) -> str:
    return f"/api/v1/jobs/{quote(job_id, safe='')}"


def _list(answer: Mapping[str, Any], key: str) -> list[Any]:
    items = answer.get(key)
    if not isinstance(items, list):
        raise MasterRefused(f"the master's answer lacks the list of {key}; is it a dist_test master?")
    return items


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _message(error: Any) -> str | None:
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else None


def _status_line(response: requests.Response) -> str:
    return f"{response.status_code} {response.reason}".strip()


def _reason(exc: BaseException) -> str:
    """The innermost cause, in one line: requests wraps "connection refused" in 200 characters of its own."""
    if isinstance(exc, requests.Timeout):
        return "no answer in time"
    while inner := exc.__cause__ or exc.__context__:
        exc = inner
    return (exc.strerror if isinstance(exc, OSError) else None) or " ".join(str(exc).split()) or type(exc).__name__


def _retry_after(response: requests.Response) -> float | None:
    # RFC 9110, 10.2.3: seconds, or a date, which no master of ours sends.
    value = response.headers.get("Retry-After", "")
    return min(int(value), _LONGEST_RETRY_AFTER_SECONDS) if value.isascii() and value.isdigit() else None


def _minutes(duration: timedelta) -> str:
    seconds = round(duration.total_seconds())
    return f"{seconds // 60} minutes" if seconds >= 120 else f"{seconds} seconds"
