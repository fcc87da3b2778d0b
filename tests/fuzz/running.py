"""Run a target: its corpus, then what strategies think of, for a number of inputs or for a time."""

import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisWarning

from .kept import Corpus
from .limits import limited
from .mutations import enlarged, mutated
from .target import Target

# Neither seconds for each input nor a database of its own: `limited` and the corpus have those. Failures are reduced by
# `reduced`, which has a limit of time.
_SETTINGS = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    report_multiple_bugs=False,
    print_blob=False,
)
_LARGEST_TEMPLATE_BYTES = 2**16
_REDUCTION_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How many inputs of each kind to try."""

    drawn: int
    mutated: int
    large: int


ROUND = Extent(drawn=50, mutated=500, large=2)


@dataclass(kw_only=True)
class Report:
    """What came of a target."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    answers: set[str] = field(default_factory=set)
    failures: dict[str, Path] = field(default_factory=dict)
    kept: int = 0
    slowest_seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.name:<16} {self.executions:>7} inputs in {self.seconds:>4.0f} s  {len(self.failures):>2} failures"
            f"  {len(self.answers):>4} kinds of answer  {self.kept:>2} new files  slowest {self.slowest_seconds:.1f} s"
        )


class Run:
    """A target on the way. When it `explores`, it keeps what gets a new kind of answer, and goes on after a failure."""

    def __init__(self, target: Target, *, explores: bool) -> None:
        self.report = Report(name=target.name)
        self._target = target
        self._corpus = Corpus(target.name)
        self._explores = explores
        self._inputs = list(self._corpus.inputs().values())
        self._templates = [data for data in self._inputs if len(data) < _LARGEST_TEMPLATE_BYTES]

    def replay(self) -> None:
        """Read what is kept; raises what the reader raises, with the file's name."""
        for name, data in self._corpus.inputs().items():
            try:
                self.report.answers.add(self._read(data))
            except Exception as exc:
                exc.add_note(f"on tests/fuzz/corpus/{self._target.name}/{name}")
                raise

    def try_some(self, extent: Extent) -> None:
        """Try this many inputs, the same ones each time. Raises what the reader raises."""
        self._try(extent, number=0)

    def try_for(self, seconds: float) -> None:
        """Try others for so long."""
        begun = time.monotonic()
        number = time.time_ns()
        while (taken := time.monotonic() - begun) < seconds:
            number += 1
            self._try(ROUND, number=number)
        self.report.seconds = taken

    def _try(self, extent: Extent, *, number: int) -> None:
        self._draw(extent.drawn, number)
        random = Random(number)
        for _ in range(extent.mutated):
            self._take(mutated(random, self._inputs))
        for _ in range(extent.large):
            self._take(enlarged(random, self._templates, self._target.large_bytes))

    def _draw(self, inputs: int, number: int) -> None:
        @settings(_SETTINGS, max_examples=inputs)
        @seed(number)
        @given(self._target.inputs)
        def trial(data: bytes) -> None:
            self._take(data)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)  # of inputs that are long to print
            trial()

    def _take(self, data: bytes) -> None:
        try:
            self._note(data, self._read(data))
        except Exception as exc:
            place = place_of(exc)
            if self._explores and place in self.report.failures:
                return
            path = self._corpus.keep_failure(reduced(data, lambda shorter: self._fails_at(shorter) == place))
            self.report.failures[place] = path
            if not self._explores:
                exc.add_note(f"kept as {path}")
                raise
            print(f"\n{path}: {place}\n{''.join(traceback.format_exception(exc))[-3000:]}")

    def _fails_at(self, data: bytes) -> str | None:
        try:
            self._read(data)
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is what we look for
            return place_of(exc)
        return None

    def _note(self, data: bytes, answer: str) -> None:
        if answer in self.report.answers:
            return
        self.report.answers.add(answer)
        if self._explores and self._corpus.keep(data):
            self.report.kept += 1
            self._inputs.append(data)

    def _read(self, data: bytes) -> str:
        self.report.executions += 1
        begun = time.thread_time()
        with limited():
            answer = self._target.read(data)
        self.report.slowest_seconds = max(self.report.slowest_seconds, time.thread_time() - begun)
        return answer


def reduced(data: bytes, is_failing: Callable[[bytes], bool], *, seconds: float = _REDUCTION_SECONDS) -> bytes:
    """The input with all taken out that is not needed for it to fail, as far as that is found in the time."""
    deadline = time.monotonic() + seconds
    size = len(data) // 2
    while size:
        start = 0
        while start < len(data):
            if time.monotonic() > deadline:
                return data
            shorter = data[:start] + data[start + size :]
            if is_failing(shorter):
                data = shorter
            else:
                start += size
        size //= 2
    return data


def place_of(exc: Exception) -> str:
    """The kind of the error and where in the program it was raised: one failure is told once."""
    ours = [frame for frame in _frames(exc) if "/tests/fuzz/" not in frame.filename or "assert" in str(frame.line)]
    frame = next((one for one in reversed(ours) if "dist_test" in one.filename), ours[-1] if ours else None)
    where = "" if frame is None else f" at {Path(frame.filename).name}:{frame.lineno}"
    return f"{type(exc).__name__}{where}"


def _frames(exc: Exception) -> Iterator[traceback.FrameSummary]:
    yield from traceback.extract_tb(exc.__traceback__)
