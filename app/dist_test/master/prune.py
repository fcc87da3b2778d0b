"""`dist-test-master prune`: remove what is known of jobs that ended long ago, and their logs and artifacts.

1. Of each job that ended before the cutoff, the objects go, those of claims that lost included; then its rows, the
   job's own as the last. Whatever is cut off in between is found again by the next run.
2. Objects whose job is not in the database go when they are older than the cutoff: of a slave that was late by days, or
   of jobs that a restored dump does not know.
3. Expected durations go that no job has used for more than a year.

A job that is not finished is not looked at, whatever its age. A dry run does the same and leaves out the removals.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dist_test.master.documents import moment
from dist_test.model.result_key import is_result_key
from dist_test.settings import MasterSettings
from dist_test.storage.bulk import pages
from dist_test.storage.database import Database
from dist_test.storage.leader import Leadership
from dist_test.storage.results import Bucket, StoredObject
from dist_test.storage.retention import OldJob, Retention

logger = logging.getLogger(__name__)

Say = Callable[[str], None]

LOCK = "prune"
# Nobody takes the lock over while a slow S3 server answers one request.
_SILENCE_SECONDS = 900
_AT_ONCE = 1000
_BLOBS = "isolate"  # the first part of the keys of blobs, which may be in the same bucket


@dataclass(kw_only=True)
class Objects:
    """How many objects, and their size together."""

    objects: int = 0
    size_bytes: int = 0

    def add(self, stored: Sequence[StoredObject]) -> None:
        self.objects += len(stored)
        self.size_bytes += sum(one.size_bytes for one in stored)

    def __str__(self) -> str:
        return f"{_counted(self.objects, 'object')}, {self.size_bytes / 1e6:.1f} MB"


@dataclass(kw_only=True)
class Report:
    """What a run has removed, or would remove. `orphans`: objects whose job is not there."""

    jobs: int = 0
    attempts: int = 0
    results: Objects = field(default_factory=Objects)
    orphans: Objects = field(default_factory=Objects)
    durations: int = 0

    def __str__(self) -> str:
        return (
            f"{_counted(self.jobs, 'job')} with {_counted(self.attempts, 'attempt')} and {self.results};"
            f" without a job {self.orphans}; {_counted(self.durations, 'expected duration')}"
        )


class Prune:
    """One run. Raises DatabaseUnavailable, DatabaseRefused, and ResultStoreUnavailable, in the middle of it too."""

    def __init__(self, retention: Retention, bucket: Bucket, *, fence: Callable[[], None], is_dry: bool) -> None:
        """`fence`: called before each removal, and now and then; raises when another run may have begun."""
        self._retention = retention
        self._bucket = bucket
        self._fence = fence
        self._is_dry = is_dry

    def run(self, age: timedelta, tell: Callable[[OldJob, Objects], None]) -> Report:
        """Remove what is older than `age`; `tell` each job."""
        report = Report()
        cutoff = self._retention.cutoff(age)
        for job in self._retention.old_jobs(cutoff):
            found = self._remove(job)
            tell(job, found)
            report.jobs += 1
            report.attempts += job.attempts
            report.results.objects += found.objects
            report.results.size_bytes += found.size_bytes
        self._remove_orphans(cutoff, report.orphans)
        report.durations = self._retention.forget_durations(is_dry=self._is_dry, fence=self._fence)
        return report

    def _remove(self, job: OldJob) -> Objects:
        found = Objects()
        self._delete(self._results_of(job.job_id), found)
        if not self._is_dry:
            self._retention.remove(job, fence=self._fence)
        return found

    def _remove_orphans(self, cutoff: datetime, found: Objects) -> None:
        for folders in pages(self._bucket.folders(), _AT_ONCE):
            # After the listing: what was stored before has had a row before.
            for job_id in sorted(self._retention.unknown([name for name in folders if name != _BLOBS])):
                # A new job may have taken the id at this moment, and its objects are young.
                self._delete((one for one in self._results_of(job_id) if one.modified_at < cutoff), found)

    def _results_of(self, job_id: str) -> Iterator[StoredObject]:
        return (one for one in self._bucket.list(f"{job_id}/") if is_result_key(one.key))

    def _delete(self, stored: Iterator[StoredObject], found: Objects) -> None:
        for page in pages(stored, _AT_ONCE):
            found.add(page)
            self._fence()
            if not self._is_dry:
                self._bucket.delete(one.key for one in page)


def run_prune(settings: MasterSettings, age: timedelta, say: Say, *, is_dry: bool, as_json: bool) -> int:
    """Prune, and say what was done; give the exit status. Raises as Prune does."""
    with closing(Database(settings.mysql, pool_size=2)) as database:
        database.check_schema()
        lock = Leadership(database, LOCK, silence_seconds=_SILENCE_SECONDS)
        if not lock.holds():
            say(json.dumps({"busy": True}) if as_json else "Another run is pruning at this moment; nothing was done.")
            return 0
        try:
            prune = Prune(
                Retention(database), Bucket.of(settings.aws), fence=lambda: lock.require("pruning"), is_dry=is_dry
            )
            _carry_out(prune, age, say, is_dry=is_dry, as_json=as_json)
        finally:
            lock.resign()
    return 0


def _carry_out(prune: Prune, age: timedelta, say: Say, *, is_dry: bool, as_json: bool) -> None:
    told: list[dict[str, Any]] = []

    def tell(job: OldJob, found: Objects) -> None:
        if as_json:
            told.append(_job_document(job, found))
        elif is_dry:
            say(_line(job, found))
        else:
            logger.info("Pruned %s", job.job_id, extra={"action": "job_pruned", "job": job.job_id})

    report = prune.run(age, tell)
    if as_json:
        say(json.dumps({"busy": False, "dry_run": is_dry, "jobs": told, "total": asdict(report)}, indent=2))
    else:
        say(f"{'would remove' if is_dry else 'removed'} {report}")


def _job_document(job: OldJob, found: Objects) -> dict[str, Any]:
    ended = {"job_id": job.job_id, "owner": job.owner, "finished_at": moment(job.finished_at)}
    return ended | {"attempts": job.attempts, **asdict(found)}


def _line(job: OldJob, found: Objects) -> str:
    ended = f"{job.finished_at:%Y-%m-%d %H:%M}"
    return f"{job.job_id}  {job.owner or '-'}  ended {ended}  {_counted(job.attempts, 'attempt')}  {found}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
