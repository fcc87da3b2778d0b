"""The master's application under gunicorn: worker processes with threads, limits on what a client may take of them."""

from typing import TYPE_CHECKING, Any

from dist_test.serving import WebServer
from dist_test.settings import MasterSettings

if TYPE_CHECKING:
    from dist_test.master.worker import Worker

GRACEFUL_SECONDS = 8  # and a little for the end itself: ten in all
SILENCE_SECONDS = 10  # of a client in the middle of a request, before its thread is needed for others
MAX_REQUEST_LINE = 4094


class Server(WebServer):
    """Serves until SIGTERM."""

    def __init__(self, settings: MasterSettings) -> None:
        self._settings = settings
        self.worker: Worker | None = None
        super().__init__(_options(settings), silence_seconds=SILENCE_SECONDS)

    def load(self) -> Any:
        # After the fork: connections, threads and prometheus_client's files must not be inherited.
        from dist_test.master.worker import Worker

        self.worker = Worker(self._settings)
        return self.worker.application


def _options(settings: MasterSettings) -> dict[str, Any]:
    return {
        "bind": settings.bind,
        "workers": settings.workers,
        "threads": settings.threads,
        "graceful_timeout": GRACEFUL_SECONDS,
        "limit_request_line": MAX_REQUEST_LINE,
        "limit_request_fields": 50,
        "limit_request_field_size": 8190,
        # Whom to believe about clients is decided by master.trusted_proxies alone.
        "forwarded_allow_ips": "",
        "accesslog": None if settings.log_dir is None else str(settings.log_dir / "server-access.log"),
        "worker_exit": _stop_worker,
    }


def _stop_worker(server: Any, _worker: Any) -> None:
    if server.app.worker is not None:
        server.app.worker.close()
