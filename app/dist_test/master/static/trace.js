// The timeline of a job: fetches its attempts, keeps them fresh while it runs, and lets people look around in it.
// All scripts of a page share one space of names: those of live.js are taken.

"use strict";

const LIVE_SECONDS = 3;
const LONGEST_PAUSE_MS = 60_000;
const ZOOM = 1.4; // a press of a button or key
const CLICK_PIXELS = 4; // what moves further is a drag
const REACH_PIXELS = 3;
const LEAST_MS = 5; // in sight at once

class Timeline {
  constructor(section) {
    this.section = section;
    this.find = (selector) => section.querySelector(selector);
    this.view = this.find(".view");
    this.space = this.find(".space");
    this.tip = this.find(".tip");
    this.spans = new Spans();
    section.hidden = false;
    this.drawing = new Drawing(this.find("canvas"));
    this.window = null; // {from, to} in milliseconds; null for all there is
    this.hovered = null;
    this.matches = null;
    this.isAsked = false; // whether a frame is
    this.fit();
  }

  get look() {
    const all = this.all;
    const { from, to } = this.window ?? all;
    return { from, to, scroll: this.view.scrollTop, hovered: this.hovered, matches: this.matches };
  }

  get all() {
    return { from: 0, to: this.spans.end * 1.01 };
  }

  fit() {
    this.drawing.layOut(this.spans);
    const height = Math.min(Math.max(this.drawing.height, 120), Math.round(window.innerHeight * 0.7));
    this.drawing.resize(this.view.clientWidth, height);
    this.space.style.height = `${Math.max(this.drawing.height - height, 0)}px`;
    this.redraw();
  }

  redraw() {
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      this.drawing.draw(this.spans, this.look);
    });
  }

  take(answer, hasChangesOnly) {
    this.spans.add(answer, hasChangesOnly);
    this.spans.isLive = answer.is_live;
    if (this.term) this.match(this.term);
    this.fit();
  }

  // Moments

  show(from, to) {
    const all = this.all;
    const length = Math.min(Math.max(to - from, LEAST_MS), all.to);
    const start = Math.min(Math.max(from, 0), all.to - length);
    this.window = length >= all.to ? null : { from: start, to: start + length };
    this.redraw();
  }

  zoom(factor, x = (this.drawing.label + this.drawing.width) / 2) {
    const look = this.look;
    const time = Math.max(this.drawing.time(x, look), look.from);
    this.show(time - (time - look.from) / factor, time + (look.to - time) / factor);
  }

  pan(pixels) {
    const look = this.look;
    const time = (pixels * (look.to - look.from)) / (this.drawing.width - this.drawing.label);
    const room = Math.min(Math.max(time, -look.from), this.all.to - look.to);
    this.show(look.from + room, look.to + room);
  }

  // Attempts

  at(x, y) {
    const lane = x < this.drawing.label ? null : this.drawing.laneAt(y, this.view.scrollTop);
    if (lane === null) return null;
    const look = this.look;
    const reach = this.drawing.time(REACH_PIXELS, look) - this.drawing.time(0, look);
    return this.spans.nearest(lane, this.drawing.time(x, look), reach);
  }

  hover(span, x, y) {
    if (span !== this.hovered) {
      this.hovered = span;
      this.tip.hidden = span === null;
      if (span !== null) this.tip.replaceChildren(...this.lines(span).map(line));
      this.redraw();
    }
    this.view.classList.toggle("over", span !== null);
    if (span === null) return;
    const left = Math.min(x + 14, this.drawing.width - this.tip.offsetWidth - 4);
    this.tip.style.left = `${Math.max(left, 0)}px`;
    const above = y - this.tip.offsetHeight - 10;
    this.tip.style.top = `${above < 0 ? y + 18 : above}px`;
  }

  lines(span) {
    const { test, attempt, slave, state, queued, started, ended } = this.spans;
    const over = ended[span] === null ? "so far" : "";
    return [
      test[span],
      `attempt ${attempt[span]} on ${slave[span]}: ${state[span].replace("_", " ")}`,
      `queued ${clock(queued[span])}, started ${clock(started[span])} after the submit`,
      `waited ${duration(started[span] - queued[span])}, ran ${duration(this.spans.endOf(span) - started[span])} ${over}`,
    ];
  }

  address(span) {
    const address = new URL(this.section.dataset.log, location.href);
    address.searchParams.set("task_id", this.spans.task[span]);
    address.searchParams.set("attempt", this.spans.attempt[span]);
    address.searchParams.set("log", "stderr");
    address.hash = "log-view";
    return address;
  }

  // Says in words, below, what was picked, for fingers, keyboards and ears.
  pick(span) {
    const link = document.createElement("a");
    link.href = this.address(span);
    link.textContent = "Log";
    this.find(".picked").replaceChildren(...this.lines(span).map(line), link);
  }

  // Tests by name

  match(term) {
    this.term = term.trim().toLowerCase();
    this.matches = null;
    this.found = [];
    if (this.term) {
      this.matches = Uint8Array.from(this.spans.test, (test) => Number(test.toLowerCase().includes(this.term)));
      this.matches.forEach((isMatch, span) => { if (isMatch && this.spans.isDrawn(span)) this.found.push(span); });
      this.found.sort((one, other) => this.spans.started[one] - this.spans.started[other]);
    }
    const count = this.found.length.toLocaleString("en");
    this.find(".found").textContent = this.term ? `${count} of ${this.spans.size.toLocaleString("en")} attempts` : "";
    this.redraw();
  }

  next() {
    if (!this.found?.length) return;
    const span = this.found[(this.found.indexOf(this.hovered) + 1) % this.found.length];
    const look = this.look;
    const middle = (this.spans.started[span] + this.spans.endOf(span)) / 2;
    const length = Math.min(look.to - look.from, Math.max((this.spans.endOf(span) - this.spans.started[span]) * 20, 100));
    this.show(middle - length / 2, middle + length / 2);
    this.view.scrollTop = this.drawing.tops[this.spans.laneOf[span]] - this.drawing.shown / 2;
    this.hovered = span;
    this.pick(span);
    this.redraw();
  }
}

function line(text) {
  const element = document.createElement("div");
  element.textContent = text;
  return element;
}

function duration(ms) {
  return ms < 60_000 ? `${(ms / 1000).toFixed(2)} s` : clock(ms, 1000);
}

// What people do

function listenToPointers(timeline) {
  const view = timeline.view;
  const pointers = new Map();
  let moved = 0;

  const place = (event) => {
    const frame = view.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  };
  const spread = () => {
    const [one, other] = [...pointers.values()];
    return { apart: Math.max(Math.abs(one.x - other.x), 1), middle: (one.x + other.x) / 2 };
  };

  view.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (pointers.size === 0) moved = 0;
    pointers.set(event.pointerId, place(event));
  });
  view.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const now = place(event);
    if (before === undefined) {
      timeline.hover(timeline.at(now.x, now.y), now.x, now.y);
      return;
    }
    const old = pointers.size === 2 ? spread() : null;
    pointers.set(event.pointerId, now);
    moved += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
    if (moved > CLICK_PIXELS && !view.hasPointerCapture(event.pointerId)) view.setPointerCapture(event.pointerId);
    if (old !== null) timeline.zoom(spread().apart / old.apart, spread().middle);
    timeline.pan(old === null ? before.x - now.x : old.middle - spread().middle);
    if (event.pointerType === "mouse") view.scrollTop += before.y - now.y;
  });
  view.addEventListener("pointerup", (event) => {
    if (!pointers.delete(event.pointerId) || moved > CLICK_PIXELS) return;
    const { x, y } = place(event);
    const span = timeline.at(x, y);
    if (span === null) return;
    // A finger cannot hover: its first touch shows what is there, and where its log is.
    if (event.pointerType === "mouse") location.assign(timeline.address(span));
    else timeline.pick(span);
  });
  view.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  view.addEventListener("pointerleave", () => timeline.hover(null));
  view.addEventListener("wheel", (event) => {
    if (event.shiftKey) return; // which scrolls the slaves
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) timeline.pan(event.deltaX);
    else timeline.zoom(Math.exp(-event.deltaY * 0.002), place(event).x);
  }, { passive: false });
}

function listenToKeys(timeline) {
  const acts = {
    "+": () => timeline.zoom(ZOOM),
    "=": () => timeline.zoom(ZOOM),
    "-": () => timeline.zoom(1 / ZOOM),
    "0": () => timeline.show(0, Infinity),
    ArrowLeft: () => timeline.pan(-80),
    ArrowRight: () => timeline.pan(80),
  };
  timeline.view.addEventListener("keydown", (event) => {
    const act = acts[event.key];
    if (act === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  const buttons = { in: acts["+"], out: acts["-"], all: acts["0"] };
  for (const button of timeline.section.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", buttons[button.dataset.zoom]);
  }
}

function listen(timeline) {
  listenToPointers(timeline);
  listenToKeys(timeline);
  const form = timeline.find(".find");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    timeline.next();
  });
  form.addEventListener("input", (event) => timeline.match(event.target.value));
  timeline.view.addEventListener("scroll", () => timeline.redraw());
  new ResizeObserver(() => timeline.fit()).observe(timeline.view);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    timeline.drawing.readColours();
    timeline.redraw();
  });
}

// What the master says

async function ask(timeline, parameters) {
  const address = new URL(timeline.section.dataset.attempts, location.href);
  for (const [name, value] of Object.entries(parameters)) address.searchParams.set(name, value);
  const answer = await fetch(address, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

function tell(timeline, text) {
  const place = timeline.find(".loaded");
  if (place.textContent !== text) place.textContent = text;
}

// Asks until it is answered: a master may be restarting.
async function insist(timeline, parameters) {
  for (let pause = 1000; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    try {
      return await ask(timeline, parameters);
    } catch {
      tell(timeline, "The master does not answer; what is shown is old.");
    }
    await rest(pause);
  }
}

function rest(ms) {
  return new Promise((resolve) => { setTimeout(resolve, ms); });
}

// Gives the moment since which changes are to be asked for, and whether there will be any.
async function loadAll(timeline) {
  let since = null;
  for (let after = undefined; after !== null; ) {
    const answer = await insist(timeline, after === undefined ? {} : { after });
    since ??= answer.now;
    after = answer.next;
    timeline.take(answer, false);
    tell(timeline, `${timeline.spans.size.toLocaleString("en")} attempts${after === null ? "" : " so far"}`);
    if (after === null) return { since, isLive: answer.is_live };
  }
  return null;
}

async function follow(timeline, since) {
  for (let isLive = true; isLive; ) {
    await rest(LIVE_SECONDS * 1000);
    if (document.visibilityState !== "visible") continue;
    const answer = await insist(timeline, { since });
    since = answer.now;
    isLive = answer.is_live;
    timeline.take(answer, true);
    tell(timeline, `${timeline.spans.size.toLocaleString("en")} attempts${isLive ? "" : "; the job has ended"}`);
  }
}

async function start(section) {
  const timeline = new Timeline(section);
  section.timeline = timeline;
  listen(timeline);
  const { since, isLive } = await loadAll(timeline);
  section.dataset.loaded = "yes";
  if (isLive) await follow(timeline, since);
}

const timelineSection = document.getElementById("timeline");
if (timelineSection !== null) {
  document.getElementById("unscripted").hidden = true;
  start(timelineSection);
}
