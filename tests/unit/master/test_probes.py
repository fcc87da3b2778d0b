"""A server that does not answer costs whoever asks two seconds at most, and one thread in all."""

import threading
import time

from dist_test.errors import DatabaseUnavailable
from dist_test.master import probes
from dist_test.master.probes import Probe


def test_a_server_that_is_well_has_no_problem() -> None:
    assert Probe(lambda: None).problem() is None


def test_a_server_that_refuses_says_why() -> None:
    def refuse() -> None:
        raise DatabaseUnavailable("gone fishing")

    probe = Probe(refuse)

    assert probe.problem() == "gone fishing"
    assert probe.problem() == "gone fishing"


def test_a_frozen_server_is_given_up_on_and_asked_once_only() -> None:
    thawed = threading.Event()
    asked = []

    def freeze() -> None:
        asked.append(threading.current_thread())
        thawed.wait(30)

    probe = Probe(freeze)
    started = time.monotonic()
    try:
        problems = [probe.problem(), probe.problem()]
    finally:
        thawed.set()

    assert problems == ["no answer within 2 s"] * 2
    assert time.monotonic() - started < 2 * probes.LIMIT_SECONDS + 1
    assert len(asked) == 1
