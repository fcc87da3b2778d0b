"""Measured figures, what they are held to, and the tables in which they are printed: Markdown, to be pasted."""

import os
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

LOOK_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure: its values, of which the median counts, and what it is held to, if to anything.

    `is_rate`: held to at least `limit`, not to at most.
    """

    name: str
    values: Sequence[float]
    unit: str
    limit: float | None = None
    is_rate: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def is_held(self) -> bool:
        if self.limit is None:
            return True
        return self.median >= self.limit if self.is_rate else self.median <= self.limit

    @property
    def row(self) -> str:
        """The figure as a row of a table."""
        spread = f"{number(min(self.values))} to {number(max(self.values))}" if len(self.values) > 1 else ""
        sign = "≥" if self.is_rate else "≤"
        held_to = "" if self.limit is None else f"{sign} {number(self.limit)}{'' if self.is_held else ' **missed**'}"
        return f"| {self.name} | {number(self.median)} {self.unit} | {spread} | {held_to} |"


def number(value: float) -> str:
    """Three digits that count, in plain notation."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def print_table(title: str, figures: Iterable[Figure]) -> bool:
    """Print the figures; say whether all are as they must be."""
    listed = list(figures)
    print(f"\n**{title}**\n\n| figure | median | from … to | held to |\n| --- | ---: | ---: | ---: |")
    for figure in listed:
        print(figure.row, flush=True)
    return all(figure.is_held for figure in listed)


def print_machine() -> None:
    """Print what stands beside all figures: the day, the machine, and how busy others keep it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    print(
        f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {os.uname().release}."
        f" Before the start: load {load}, processors {100 * idle_share():.0f} % idle.",
        flush=True,
    )


def idle_share(seconds: float = LOOK_SECONDS) -> float:
    """The share of the processors' time, from now on, in which they have nothing to do."""
    idle, total = _processor_times()
    time.sleep(seconds)
    idle_later, total_later = _processor_times()
    return (idle_later - idle) / max(1, total_later - total)


def busy_seconds() -> float:
    """How long the processors have been busy since the machine was booted, summed over them."""
    idle, total = _processor_times()
    return (total - idle) / os.sysconf("SC_CLK_TCK")


def _processor_times() -> tuple[int, int]:
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of user and nice.
    times = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return times[3] + times[4], sum(times)
