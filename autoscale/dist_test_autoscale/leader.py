"""Who decides: one of several services, by MySQL's named lock, and under which epoch."""

import logging
import threading
from typing import Protocol

from dist_test.errors import DatabaseRefused, DatabaseUnavailable, NotLeader
from dist_test.storage.autoscaling import Term

logger = logging.getLogger(__name__)


class Candidate(Protocol):
    """The lock; storage.leader.Leadership, on a connection of its own."""

    def holds(self) -> bool: ...

    def still_holds(self) -> bool: ...

    def resign(self) -> None: ...


class Terms(Protocol):
    """The count of epochs; storage.autoscaling.Autoscaling."""

    def begin_term(self, leader: str) -> Term: ...


class Leader:
    """This service as a candidate. `name` says to people which one it is."""

    def __init__(self, candidate: Candidate, terms: Terms, *, name: str) -> None:
        self.name = name
        self._candidate = candidate
        self._terms = terms
        self._term: Term | None = None
        self._lock = threading.Lock()  # fences come from the threads of several groups

    def lead(self) -> Term | None:
        """The term in which we lead; None while another does, or while nobody can know.

        Whoever lost the lock for a moment begins a new term: somebody else may have led meanwhile.
        """
        with self._lock:
            if self._term is not None and self._candidate.still_holds():
                return self._term
            self._lose()
            if self._candidate.holds():
                self._term = self._begin()
            return self._term

    def fence(self) -> None:
        """Return if we lead at this moment: to be called right before each change. Raises NotLeader."""
        with self._lock:
            if self._term is not None and self._candidate.still_holds():
                return
            self._lose()
            raise NotLeader("another autoscaler may lead now: nothing more is changed")

    def resign(self) -> None:
        """Let another lead."""
        with self._lock:
            self._term = None
            self._candidate.resign()

    def _begin(self) -> Term | None:
        try:
            term = self._terms.begin_term(self.name)
        except (DatabaseUnavailable, DatabaseRefused) as exc:
            logger.warning("Not leading: %s", exc, extra={"action": "leadership_lost"})
            self._candidate.resign()
            return None
        logger.info("Leading, as %s, in epoch %d", self.name, term.epoch, extra={"action": "leading"})
        return term

    def _lose(self) -> None:
        if self._term is not None:
            logger.warning("No longer leading", extra={"action": "leadership_lost"})
        self._term = None
