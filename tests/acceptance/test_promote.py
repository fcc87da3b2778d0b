"""A job that an operator lets pass, on a cluster of real processes."""

from ..farm import Farm, wait


def test_a_promoted_job_and_its_retry_run_before_a_longer_queue(farm: Farm) -> None:
    farm.start()
    slow = {"isolate_hash": farm.archive("sleep 0.3"), "description": "slow"}
    flaky = {"isolate_hash": farm.archive("[ $DIST_TEST_ATTEMPT = 1 ]"), "description": "flaky", "max_retries": 1}
    assert farm.submit("long", *([slow] * 40)).status_code == 201
    farm.slave()
    wait(lambda: farm.job("long")["counters"]["finished_tasks"] >= 1)
    assert farm.submit("late", slow, slow, flaky).status_code == 201

    said = farm.operate("promote", "late")
    assert "late: 3 waiting attempts" in said
    assert "  long (owner ann): " in said
    assert farm.wait_for_job("late")["result"] == "succeeded"
    assert farm.job("long")["state"] == "running", "it would have run first"
    assert farm.job("late")["promoted_at"] is not None

    farm.wait_for_job("long")
    starts = {name: [attempt["started_at"] for attempt in farm.attempts(name)] for name in ("late", "long")}
    assert len(starts["late"]) == 4
    assert max(starts["late"]) < max(starts["long"])
    assert "breach" not in farm.operate("audit")
