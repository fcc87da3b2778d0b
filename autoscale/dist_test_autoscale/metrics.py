"""What Prometheus is told."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dist_test_autoscale.decision import Cause, Decision, Hold, Kind
from dist_test_autoscale.execution import Outcome
from dist_test_autoscale.fleet import Fleet, Member, classify
from dist_test_autoscale.fleet import Kind as Being
from dist_test_autoscale.settings import PolicySettings
from dist_test_autoscale.snapshot import Snapshot

_BEINGS = {
    Being.UP: "live",
    Being.BOOTING: "booting",
    Being.FAILED: "failed",
    Being.SILENT: "zombie",
    Being.PARKED: "draining",
}
_BOOT_BUCKETS = (5, 10, 20, 30, 45, 60, 75, 90, 120, 180, 300, 600)


class Metrics:
    """One service's metrics, in a registry of their own."""

    def __init__(self, policy: PolicySettings) -> None:
        self.registry = registry = CollectorRegistry()
        self._policy = policy
        self._counted_at: float | None = None
        self._preempted: frozenset[tuple[str, str]] = frozenset()
        self.queue = Gauge("dta_queue", "Entries in the tube.", ["state"], registry=registry)
        self.work = Gauge("dta_work_seconds", "Expected seconds of work left.", registry=registry)
        self.desired = Gauge("dta_desired", "Slaves that are wanted.", registry=registry)
        self.capacity = Gauge("dta_capacity", "Instances by what they are to us.", ["group", "kind"], registry=registry)
        self.target_size = Gauge("dta_target_size", "Target of the group.", ["group"], registry=registry)
        self.actions = Counter("dta_actions", "Acts.", ["kind", "group", "result"], registry=registry)
        self.hold = Gauge("dta_hold", "Why nothing is done: 1.", ["reason"], registry=registry)
        self.leader = Gauge("dta_leader", "Whether this service decides.", registry=registry)
        self.dry_run = Gauge("dta_dry_run", "Whether it decides without acting.", registry=registry)
        self.backoff_until = Gauge(
            "dta_backoff_until", "Unix time until which the group is not grown.", ["group"], registry=registry
        )
        self.unplaced = Gauge(
            "dta_unplaced_demand", "Slaves that are wanted and that no group may give.", registry=registry
        )
        self.boot_seconds = Histogram(
            "dta_boot_seconds", "From buying an instance to its slave.", buckets=_BOOT_BUCKETS, registry=registry
        )
        self.api_requests = Counter(
            "dta_api_requests", "Calls of Compute Engine.", ["method", "code"], registry=registry
        )
        self.api_latency = Histogram("dta_api_latency_seconds", "Their time.", registry=registry)
        self.tick_seconds = Histogram("dta_tick_seconds", "Time of a decision and its acts.", registry=registry)
        self.tick_failures = Counter("dta_tick_failures", "Decisions that ended in an error.", registry=registry)
        self.snapshot_age = Gauge(
            "dta_snapshot_age_seconds", "Since a source was last read well.", ["source"], registry=registry
        )
        self.preemptions = Counter("dta_preemptions", "Slaves that were preempted.", ["group"], registry=registry)
        self.drain_timeouts = Counter("dta_drain_timeouts", "Drains that nobody acknowledged.", registry=registry)
        self.vm_seconds = Counter("dta_vm_seconds", "Seconds of instances.", ["group", "state"], registry=registry)
        self.group_ok = Gauge("dta_group_ok", "Whether the group can be read.", ["group"], registry=registry)
        self.autoscaler_attached = Gauge(
            "dta_autoscaler_attached", "Whether Google's own autoscaler sizes the group.", ["group"], registry=registry
        )
        for hold in Hold:
            self.hold.labels(str(hold)).set(0)

    def observe_call(self, method: str, code: str, seconds: float) -> None:
        """Count one call of Compute Engine."""
        self.api_requests.labels(method, code).inc()
        self.api_latency.observe(seconds)

    def note(self, snapshot: Snapshot, decision: Decision, outcomes: Iterable[Outcome], ages: dict[str, float]) -> None:
        """Show a decision and what it was based on."""
        self.leader.set(snapshot.leader)
        for hold in Hold:
            self.hold.labels(str(hold)).set(hold is decision.hold)
        for source, age in ages.items():
            self.snapshot_age.labels(source).set(age)
        self._note_decision(decision)
        self._note_queue(snapshot)
        self._note_groups(snapshot, decision)
        for outcome in outcomes:
            self.actions.labels(str(outcome.kind), outcome.group, outcome.result).inc()

    def _note_decision(self, decision: Decision) -> None:
        if decision.desired is not None:
            self.desired.set(decision.desired)
        self.unplaced.set(decision.unplaced)
        unanswered = [
            target for action in decision.actions if action.kind is Kind.UNDRAIN for target in action.targets
            if target.cause is Cause.NO_ANSWER
        ]  # fmt: skip
        self.drain_timeouts.inc(len(unanswered))

    def _note_queue(self, snapshot: Snapshot) -> None:
        if snapshot.queue is not None:
            for state in ("ready", "reserved", "delayed", "buried"):
                self.queue.labels(state).set(getattr(snapshot.queue, state))
        if snapshot.jobs is not None:
            self.work.set(sum(job.ready_s + job.running_left_s for job in snapshot.jobs))

    def _note_groups(self, snapshot: Snapshot, decision: Decision) -> None:
        known = {group.name: group for group in snapshot.groups}
        for settings in self._policy.groups if snapshot.leader else ():
            group = known.get(settings.name)
            self.group_ok.labels(settings.name).set(group is not None and group.ok)
            backoff = decision.state.backoffs.get(settings.name)
            self.backoff_until.labels(settings.name).set(0 if backoff is None else backoff.until)
            if group is not None:
                self.target_size.labels(settings.name).set(group.target)
                self.autoscaler_attached.labels(settings.name).set(group.autoscaler)
        if snapshot.leader and snapshot.slaves is not None:
            self._note_members(snapshot, classify(self._policy, snapshot))

    def _note_members(self, snapshot: Snapshot, fleet: Fleet) -> None:
        elapsed = 0.0 if self._counted_at is None else max(0.0, snapshot.now - self._counted_at)
        self._counted_at = snapshot.now
        for group in snapshot.groups:
            kinds = [member.kind for member in fleet.members if member.group == group.name]
            for being, word in _BEINGS.items():
                pending = fleet.pending[group.name] if being is Being.BOOTING else 0
                self.capacity.labels(group.name, word).set(kinds.count(being) + pending)
        for member in fleet.members:
            self.vm_seconds.labels(member.group, _use(member)).inc(elapsed)
        self._note_preempted(fleet)

    def _note_preempted(self, fleet: Fleet) -> None:
        preempted = [member for member in fleet.members if member.slave and member.slave.state == "preempted"]
        for member in preempted:
            if member.key not in self._preempted:
                self.preemptions.labels(member.group).inc()
        self._preempted = frozenset(member.key for member in preempted)


def _use(member: Member) -> str:
    """busy, idle or booting: what an instance is paid for."""
    if member.slave is None:
        return "booting"
    return "busy" if member.slave.busy else "idle"
