"""A short run of what `make chaos` does for longer."""

from .trial import Plan, run_trial


def test_jobs_end_rightly_whatever_happens_to_the_cluster() -> None:
    verdict = run_trial(Plan(seed=6, tasks=200, slaves=3, fault_seconds=16))
    assert verdict.wrong == []
    assert len({(attempt.job_id, attempt.index) for attempt in verdict.attempts}) == 200
