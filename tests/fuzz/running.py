"""Run a target: its corpus, then what strategies think of, for a number of inputs or for a time."""

import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning
from hypothesis.strategies import SearchStrategy

from .kept import Corpus
from .limits import limited
from .mutations import large, mutated
from .target import Target

_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
_INPUTS_OF_A_ROUND = 200
_LARGE_INPUTS_OF_A_ROUND = 3


@dataclass(kw_only=True)
class Report:
    """What came of a target."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    answers: set[str] = field(default_factory=set)
    failures: dict[str, Path] = field(default_factory=dict)
    kept: int = 0

    def __str__(self) -> str:
        return (
            f"{self.name:<16} {self.executions:>8} inputs in {self.seconds:>4.0f} s  {len(self.failures):>3} failures"
            f"  {len(self.answers):>4} kinds of answer  {self.kept:>3} new files"
        )


class Run:
    """A target on the way. A kind of answer that nothing in the corpus has got is kept when `grows`."""

    def __init__(self, target: Target, *, grows: bool) -> None:
        self.report = Report(name=target.name)
        self._target = target
        self._corpus = Corpus(target.name)
        self._grows = grows
        self._inputs = self._corpus.inputs()

    def replay(self) -> None:
        """Read what is kept; raises what the reader raises, with the file's name."""
        for name, data in self._inputs.items():
            try:
                self.report.answers.add(self._read(data))
            except Exception as exc:
                exc.add_note(f"on tests/fuzz/corpus/{self._target.name}/{name}")
                raise

    def try_some(self, inputs: int, *, large_inputs: int) -> None:
        """Try this many inputs, the same ones each time. Keeps what fails, and raises what the reader raises."""
        try:
            self._try(self._usual(), inputs, number=0)
            self._try(self._large(), large_inputs, number=0)
        except Exception as exc:
            exc.add_note(f"kept as {self._corpus.keep_failure(self._last)}")
            raise

    def try_for(self, seconds: float) -> None:
        """Try others for so long; what fails is kept, and the run goes on."""
        begun = time.monotonic()
        number = time.time_ns()
        while (taken := time.monotonic() - begun) < seconds:
            number += 1
            for strategy, inputs in ((self._usual(), _INPUTS_OF_A_ROUND), (self._large(), _LARGE_INPUTS_OF_A_ROUND)):
                self._note_failures(strategy, inputs, number)
        self.report.seconds = taken

    def _note_failures(self, strategy: SearchStrategy[bytes], inputs: int, number: int) -> None:
        try:
            self._try(strategy, inputs, number=number)
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is what we look for
            place = _place(exc)
            if place not in self.report.failures:
                path = self._corpus.keep_failure(self._last)
                self.report.failures[place] = path
                print(f"\n{path}: {place}\n{''.join(traceback.format_exception(exc))[-3000:]}")

    def _try(self, strategy: SearchStrategy[bytes], inputs: int, *, number: int) -> None:
        @settings(max_examples=inputs, deadline=None, database=None, suppress_health_check=_CHECKS, print_blob=False)
        @seed(number)
        @given(strategy)
        def trial(data: bytes) -> None:
            self._last = data
            self._note(data, self._read(data))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)  # of inputs that are long to print
            trial()

    def _note(self, data: bytes, answer: str) -> None:
        if answer not in self.report.answers:
            self.report.answers.add(answer)
            if self._grows and self._corpus.keep(data):
                self.report.kept += 1

    def _read(self, data: bytes) -> str:
        self.report.executions += 1
        with limited():
            return self._target.read(data)

    def _usual(self) -> SearchStrategy[bytes]:
        return st.one_of(self._target.inputs, mutated(list(self._inputs.values())))

    def _large(self) -> SearchStrategy[bytes]:
        return large([data for data in self._inputs.values() if len(data) < _LARGEST_TEMPLATE_BYTES])


_LARGEST_TEMPLATE_BYTES = 2**16


def _place(exc: Exception) -> str:
    """The kind of the error and where in the program it was raised: one failure is told once."""
    ours = [frame for frame in _frames(exc) if "/tests/fuzz/" not in frame.filename or "assert" in str(frame.line)]
    frame = next((one for one in reversed(ours) if "dist_test" in one.filename), ours[-1] if ours else None)
    where = "" if frame is None else f" at {Path(frame.filename).name}:{frame.lineno}"
    return f"{type(exc).__name__}{where}"


def _frames(exc: Exception) -> Iterator[traceback.FrameSummary]:
    yield from traceback.extract_tb(exc.__traceback__)
