"""What a slave counts, for its /metrics."""

from prometheus_client import Counter, Gauge

ATTEMPTS = Counter("dist_test_attempts", "Attempts that ended on this slave.", ["outcome"])
STOPPED = Counter("dist_test_stopped", "Attempts that this slave stopped.", ["reason"])
BUSY = Gauge("dist_test_busy_slots", "Slots that run a task.")
SLOTS = Gauge("dist_test_slots", "Slots of this slave.")
