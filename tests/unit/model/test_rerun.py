"""The ids of reruns."""

from dist_test.model.job import parse_job_id
from dist_test.model.rerun import rerun_id, rerun_of


def test_reruns_are_numbered() -> None:
    assert rerun_id("ann.nightly") == "ann.nightly.rerun-1"
    assert rerun_id("ann.nightly.rerun-1") == "ann.nightly.rerun-2"
    assert rerun_id("ann.nightly.rerun-0") == "ann.nightly.rerun-0.rerun-1"


def test_a_rerun_knows_what_it_runs_again() -> None:
    assert rerun_of("ann.nightly") is None
    assert rerun_of("ann.nightly.rerun-1") == "ann.nightly"
    assert rerun_of("ann.nightly.rerun-12") == "ann.nightly.rerun-11"


def test_a_long_id_is_cut_and_stays_different_from_others() -> None:
    first, second = rerun_id("x" * 199 + "a"), rerun_id("x" * 199 + "b")

    assert first != second
    assert parse_job_id(first) == first
    assert first.endswith(".rerun-1")
    assert len(first) == 200
