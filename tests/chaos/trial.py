"""One run: jobs on a cluster to which faults happen, and what must hold in the end."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import requests

from dist_test.isolate.archive import Archive, Archiver
from dist_test.isolate.client import IsolateClient
from dist_test.isolate.stat_cache import StatCache

from ..farm import Farm, wait
from .cluster import Cluster
from .leftovers import leftovers
from .saboteur import Saboteur
from .schedule import Fault, draw
from .verdict import Verdict, judge, unfinished
from .workload import SORTS, Sort, documents, shuffled

ISOLATES = 12  # of each sort: more than caches hold, so that they are fetched all the time
JOBS = 4
# A submit that is cut off is taken over when its lease has lapsed, and cut off again: as long as faults go on it may.
SUBMIT_SECONDS = 300
POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How big a run is. Faults begin for `fault_seconds`; `settle_seconds` after the last one, all must have ended."""

    seed: int
    tasks: int = 2000
    slaves: int = 4
    slots: int = 2
    fault_seconds: float = 100
    settle_seconds: float = 300

    @property
    def faults(self) -> list[Fault]:
        return draw(self.seed, seconds=self.fault_seconds, slaves=self.slaves)


class TrialFailed(Exception):
    """Something did not hold. The message has all that is needed to find out why; the directory is kept."""


def run_trial(plan: Plan, say: Callable[[str], None] = print) -> Verdict:
    """Run it, say what happens, and give back the verdict. Raises TrialFailed."""
    directory = Path(tempfile.mkdtemp(prefix="dist_test-chaos-", dir="/var/tmp"))
    directory.chmod(0o711)
    began = time.monotonic()
    say(f"seed {plan.seed}: {plan.tasks} tasks, {_count(plan.faults)}")
    trial = _Trial(plan, directory, lambda line: say(f"{time.monotonic() - began:7.1f} s  {line}"))
    try:
        verdict = trial.run()
    except Exception as exc:  # whatever it is, it takes the whole story to find out why
        raise TrialFailed(trial.explain(f"{type(exc).__name__}: {exc}")) from exc
    finally:
        trial.close()
    if verdict.wrong:
        raise TrialFailed(trial.explain(str(verdict)))
    shutil.rmtree(directory)
    say(f"{verdict}\nseed {plan.seed}: all right after {time.monotonic() - began:.0f} s")
    return verdict


def _count(faults: Sequence[Fault]) -> str:
    kinds = Counter(f"{fault.kind.value} {fault.role}" for fault in faults)
    return f"{len(faults)} faults ({', '.join(f'{number} x {kind}' for kind, number in sorted(kinds.items()))})"


class _Trial:
    def __init__(self, plan: Plan, directory: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._directory = directory
        self._say = say
        self._marks = directory / "marks"
        self._temporary = directory / "tmp"
        self._cluster = Cluster(directory / "farm", slaves=plan.slaves, slots=plan.slots)
        self._saboteur = Saboteur(self._cluster, plan.faults, say)
        self._job_ids: list[str] = []

    @property
    def _farm(self) -> Farm:
        return self._cluster.farm

    def run(self) -> Verdict:
        self._marks.touch()
        self._marks.chmod(0o666)
        self._temporary.mkdir()
        with _temporary_files_in(self._temporary):
            self._cluster.start()
            self._say("all is up")
            digests = self._archive()
            self._say("the isolates are stored")
            self._saboteur.start()
            self._submit_all(digests)
            self._saboteur.join()
            self._say(f"the last fault is over; {self._progress()}")
            self._settle()
            verdict = judge(self._farm, self._job_ids, self._marks, self._saboteur.happened)
            self._say("the jobs are judged")
            self._cluster.check_running()
            self._cluster.stop()
        left = leftovers(self._farm, self._marks, self._temporary)
        assert not left, "left behind: " + "\n".join(left)
        return verdict

    def close(self) -> None:
        """End everything, however the run went."""
        self._saboteur.stop()
        self._farm.stop()
        self._cluster.network.close()

    def explain(self, reason: str) -> str:
        """All about a failure."""
        return "\n".join((reason, *self._story()))

    def _story(self) -> Iterator[str]:
        yield f"\nThe schedule of seed {self._plan.seed}:"
        yield from (f"{fault.at_seconds:7.1f} s  {fault}" for fault in self._plan.faults)
        yield "\nWhat happened:"
        for one in self._saboteur.happened:
            yield f"{one.began:%H:%M:%S.%f} to {one.ended:%H:%M:%S.%f}  {one.fault}"
        if self._farm.mariadb.is_running:
            yield "\nWhat has not ended:"
            yield from unfinished(self._farm, self._job_ids)
        for program in self._cluster.programs.values():
            yield f"\nThe end of {program.log_path}:\n{program.log_tail()}"
        yield f"\nSeed {self._plan.seed} failed; {self._directory} is kept."

    def _archive(self) -> Mapping[str, Sequence[str]]:
        """Store the isolates of each sort; give back their digests."""
        archiver, digests, blobs = Archiver(StatCache(None)), {}, []
        for sort in SORTS:
            archives = [self._archive_one(archiver, sort, salt) for salt in range(ISOLATES)]
            digests[sort.name] = [archive.digest for archive in archives]
            blobs += [blob for archive in archives for blob in archive.blobs]
        client = IsolateClient(f"http://127.0.0.1:{self._farm.isolate.port}")
        client.upload(blobs)
        client.close()
        return digests

    def _archive_one(self, archiver: Archiver, sort: Sort, salt: int) -> Archive:
        tree = self._directory / "isolates" / f"{sort.name}-{salt}"
        tree.mkdir(parents=True)
        script = tree / "run.sh"
        script.write_text(f"#!/bin/sh\n{sort.script(self._marks, salt)}\n")
        script.chmod(0o755)
        return archiver.archive(tree, [str(script)], command=["./run.sh"])

    def _submit_all(self, digests: Mapping[str, Sequence[str]]) -> None:
        """Submit the first half of the tasks at once and the others bit by bit while faults happen."""
        sorts = shuffled(self._plan.seed, self._plan.tasks)
        began = time.monotonic()
        half, step = len(sorts) // 2, max(1, len(sorts) // (2 * JOBS))
        bits = [sorts[:half], *(sorts[start : start + step] for start in range(half, len(sorts), step))]
        for number, bit in enumerate(bits):
            due = began + self._plan.fault_seconds * 0.8 * number / len(bits)
            time.sleep(max(0.0, due - time.monotonic()))
            self._submit(f"chaos-{number}", bit, digests)

    def _submit(self, job_id: str, sorts: Sequence[Sort], digests: Mapping[str, Sequence[str]]) -> None:
        """Submit a job as a client does that repeats until it is told that it has succeeded."""
        body = {"job_id": job_id, "owner": "ann", "tasks": list(documents(sorts, digests))}
        self._job_ids.append(job_id)

        def is_accepted() -> bool:
            try:
                answer = requests.post(f"{self._farm.url}/api/v1/jobs", json=body, timeout=10)
            except (requests.ConnectionError, requests.Timeout):
                return False
            assert answer.status_code in (200, 201, 503), f"the submit was answered {answer.status_code} {answer.text}"
            return answer.ok

        wait(is_accepted, SUBMIT_SECONDS)
        self._say(f"submitted {job_id} of {len(sorts)} tasks")

    def _settle(self) -> None:
        """Wait until the jobs have ended and the tube is empty."""
        wait(lambda: all(job["state"] == "finished" for job in self._jobs()), self._plan.settle_seconds, self._progress)
        self._say("all jobs have ended")
        wait(lambda: self._farm.tube() == 0, 30, lambda: f"{self._farm.tube()} entries are in the tube")

    def _jobs(self) -> list[dict[str, Any]]:
        time.sleep(POLL_SECONDS)
        return [self._farm.job(job_id) for job_id in self._job_ids]

    def _progress(self) -> str:
        counters = [job["counters"] for job in self._jobs()]
        finished = sum(counter["finished_tasks"] for counter in counters)
        return f"{finished} of {sum(counter['total_tasks'] for counter in counters)} tasks have ended"


@contextmanager
def _temporary_files_in(directory: Path) -> Iterator[None]:
    """Have programs that are started meanwhile put their temporary files there."""
    with patch.dict("os.environ", {"TMPDIR": str(directory)}):
        yield
