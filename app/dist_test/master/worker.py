"""What one process of the master holds: its connections, its application, its share in the reconciling."""

from dist_test.master import reconciler
from dist_test.master.application import create_app
from dist_test.master.service import Service
from dist_test.settings import MasterSettings
from dist_test.storage.database import Database
from dist_test.storage.queue import Queues
from dist_test.storage.results import Bucket


class Worker:
    """Made in the process that serves, after any fork."""

    def __init__(self, settings: MasterSettings) -> None:
        self._database = Database(settings.mysql, pool_size=settings.threads)
        self._queues = Queues(settings.beanstalk)
        self.application = create_app(
            settings,
            service=Service(settings, self._database, self._queues),
            database=self._database,
            queues=self._queues,
            results=Bucket.of(settings.aws),
        )
        self._reconciler = reconciler.start(settings)

    def close(self) -> None:
        """Finish the reconciler's round and close the connections."""
        self._reconciler.stop()
        self._queues.close()
        self._database.close()
