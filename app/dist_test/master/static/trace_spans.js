// The attempts of a trace, in columns that grow as answers come in, and the lane on which each of them lies.
// Times are milliseconds since the job's submit; null is a moment that has not come.

"use strict";

// The lane of each of `order`, which are in the order of their starts: the first on which nothing overlaps.
function packLanes(order, starts, ends) {
  const taken = []; // by lane, when it is free again
  return Array.from(order, (span) => {
    const free = taken.findIndex((end) => end <= starts[span]);
    const lane = free < 0 ? taken.length : free;
    taken[lane] = ends[span] ?? Infinity;
    return lane;
  });
}

// How many of the sorted values are at most `limit`.
function countUpTo(sorted, limit) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

class Spans {
  constructor() {
    for (const name of ["task", "attempt", "test", "slave", "state", "queued", "started", "ended"]) this[name] = [];
    this.places = new Map(); // by task and attempt
    this.now = 0;
    this.end = 1; // of what there is to see
    this.lanes = []; // {slave, number, spans}, spans in the order of their starts
    this.laneOf = [];
  }

  get size() {
    return this.task.length;
  }

  // Takes an answer in. What ran before and is neither running nor ended in an answer with changes went back to wait.
  add(answer, hasChangesOnly) {
    if (hasChangesOnly) this.state.forEach((state, span) => { if (state === "running") this.state[span] = "waiting"; });
    for (let row = 0; row < answer.task.length; row += 1) this.put(answer, row);
    this.now = answer.now / 1000;
    this.arrange();
  }

  put(answer, row) {
    const key = answer.task[row] * 65536 + answer.attempt[row];
    const span = this.places.get(key) ?? this.size;
    this.places.set(key, span);
    for (const name of ["task", "attempt", "test", "queued", "started", "ended"]) this[name][span] = answer[name][row];
    this.slave[span] = answer.slave[row] === null ? null : answer.slaves[answer.slave[row]];
    this.state[span] = answer.states[answer.state[row]];
  }

  arrange() {
    const drawn = new Map(); // spans by slave
    for (let span = 0; span < this.size; span += 1) {
      if (!this.isDrawn(span)) continue;
      if (!drawn.has(this.slave[span])) drawn.set(this.slave[span], []);
      drawn.get(this.slave[span]).push(span);
    }
    this.lanes = [];
    const inOrder = new Intl.Collator("en", { numeric: true });
    for (const slave of [...drawn.keys()].sort(inOrder.compare)) this.addLanes(slave, drawn.get(slave));
    this.arrangeQueue();
  }

  isDrawn(span) {
    return this.started[span] !== null && this.slave[span] !== null && this.state[span] !== "waiting";
  }

  addLanes(slave, spans) {
    const first = this.lanes.length;
    const order = spans.sort((one, other) => this.started[one] - this.started[other] || one - other);
    packLanes(order, this.started, this.ended).forEach((number, place) => {
      this.lanes[first + number] ??= { slave, number, spans: [] };
      this.lanes[first + number].spans.push(order[place]);
      this.laneOf[order[place]] = first + number;
    });
  }

  // When attempts began to wait and ceased to: how many wait at a time is the difference of two counts.
  arrangeQueue() {
    const left = [];
    this.end = 1;
    for (let span = 0; span < this.size; span += 1) {
      const moment = this.isDrawn(span) ? this.started[span] : this.ended[span];
      if (moment !== null) left.push(moment);
      this.end = Math.max(this.end, this.ended[span] ?? (this.state[span] === "running" ? this.now : 0));
    }
    this.joined = Float64Array.from(this.queued).sort();
    this.left = Float64Array.from(left).sort();
  }

  waitingAt(time) {
    return countUpTo(this.joined, time) - countUpTo(this.left, time);
  }

  endOf(span) {
    return this.ended[span] ?? this.now;
  }

  // The place in a lane of the first span that ends after `time`.
  firstAfter(spans, time) {
    let low = 0;
    let high = spans.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.endOf(spans[middle]) <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // The span of a lane nearest to `time`, if it is no further from it than `reach`.
  nearest(lane, time, reach) {
    const spans = this.lanes[lane].spans;
    const place = this.firstAfter(spans, time);
    const away = (span) => Math.max(this.started[span] - time, time - this.endOf(span), 0);
    const near = spans.slice(Math.max(place - 1, 0), place + 1).filter((span) => away(span) <= reach);
    return near.sort((one, other) => away(one) - away(other))[0] ?? null;
  }
}
