// Draws spans on a canvas: a strip with the length of the queue, an axis, and the lanes below, grouped by slave.
// Only what is in sight is drawn, and what shares a pixel once, as the worst of it.

"use strict";

const LANE = 16;
const GAP = 8; // between slaves
const STRIP = 44;
const HEAD = STRIP + 22; // the strip and the axis
const FONT = '11px ui-monospace, "DejaVu Sans Mono", monospace';
const LETTER = 6.7; // the width of a letter of that font
const LEAST_TEXT = 12;
// From what is drawn first to what may hide it.
const STATES = ["succeeded", "running", "canceled", "setup_failed", "lost", "timed_out", "failed"];
const MARKS = { failed: "F", timed_out: "T", lost: "L", setup_failed: "U", canceled: "C", running: "R" };
const COLOURS = { succeeded: "--good", running: "--busy", canceled: "--note" }; // all others --bad

class Drawing {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.tops = [];
    this.height = HEAD;
    this.readColours();
  }

  readColours() {
    const style = getComputedStyle(this.canvas);
    this.colour = (name) => style.getPropertyValue(name).trim();
    this.colours = Object.fromEntries(STATES.map((state) => [state, this.colour(COLOURS[state] ?? "--bad")]));
    this.ink = Object.fromEntries(
      ["text", "quiet", "ground", "raised", "line", "note", "link"].map((name) => [name, this.colour(`--${name}`)]),
    );
  }

  // Works out where lanes lie; call it when they have changed.
  layOut(spans) {
    let top = HEAD;
    this.tops = spans.lanes.map((lane, place) => {
      if (lane.number === 0 && place > 0) top += GAP;
      top += LANE;
      return top - LANE;
    });
    this.height = top + GAP;
  }

  resize(width, height) {
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    this.width = width;
    this.shown = height;
    this.label = width < 600 ? 76 : 140;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
  }

  x(time, look) {
    return this.label + ((time - look.from) / (look.to - look.from)) * (this.width - this.label);
  }

  time(x, look) {
    return look.from + ((x - this.label) / (this.width - this.label)) * (look.to - look.from);
  }

  // The lane at a height of the canvas; null in the head and between lanes.
  laneAt(y, scroll) {
    if (y < HEAD) return null;
    const lane = countUpTo(this.tops, y + scroll) - 1;
    return lane >= 0 && y + scroll < this.tops[lane] + LANE ? lane : null;
  }

  // look: {from, to, scroll, hovered, matches}; matches is null or holds 1 for each span that is looked for.
  draw(spans, look) {
    const context = this.context;
    context.font = FONT;
    context.textBaseline = "middle";
    context.fillStyle = this.ink.ground;
    context.fillRect(0, 0, this.width, this.shown);
    const ticks = this.ticks(look);
    this.drawGrid(ticks, look);
    this.drawLanes(spans, look);
    this.drawLabels(spans, look);
    this.drawHead(spans, ticks, look);
  }

  ticks(look) {
    const apart = stepOf(((look.to - look.from) / (this.width - this.label)) * 110);
    const ticks = [];
    for (let time = Math.ceil(look.from / apart) * apart; time <= look.to; time += apart) ticks.push(time);
    return { apart, times: ticks };
  }

  drawGrid(ticks, look) {
    this.context.fillStyle = this.ink.line;
    for (const time of ticks.times) this.context.fillRect(Math.round(this.x(time, look)), STRIP, 1, this.shown);
  }

  drawLanes(spans, look) {
    const boxes = { plain: {}, faint: {} };
    const first = Math.max(0, countUpTo(this.tops, look.scroll + HEAD - LANE) - 1);
    for (let lane = first; lane < this.tops.length; lane += 1) {
      const top = this.tops[lane] - look.scroll;
      if (top > this.shown) break;
      this.collect(spans, spans.lanes[lane].spans, top, look, boxes);
    }
    this.context.globalAlpha = 0.2;
    this.fill(boxes.faint, spans);
    this.context.globalAlpha = 1;
    this.fill(boxes.plain, spans);
    if (look.hovered !== null) this.drawHovered(spans, look);
  }

  // Puts the boxes of a lane into `boxes`, by state. Of several on one pixel the worst stays.
  collect(spans, order, top, look, boxes) {
    const perTime = (this.width - this.label) / (look.to - look.from);
    let last = null;
    for (let place = spans.firstAfter(order, look.from); place < order.length; place += 1) {
      const span = order[place];
      if (spans.started[span] >= look.to) break;
      const left = Math.max(this.label + (spans.started[span] - look.from) * perTime, this.label);
      const right = Math.min(this.label + (spans.endOf(span) - look.from) * perTime, this.width);
      const isFaint = look.matches !== null && !look.matches[span];
      const rank = STATES.indexOf(spans.state[span]) - (isFaint ? STATES.length : 0);
      if (last !== null && right - left < 1 && Math.floor(left) === Math.floor(last.left) && last.right - last.left < 1) {
        if (rank <= last.rank) continue;
        last.into.pop();
      }
      const kind = isFaint ? boxes.faint : boxes.plain;
      const into = (kind[spans.state[span]] ??= []);
      into.push({ left, right, top, span });
      last = { left, right, rank, into };
    }
  }

  fill(boxes, spans) {
    for (const state of STATES) {
      // Height tells success from all else where a box is too narrow for a letter.
      const inset = state === "succeeded" ? 4 : 1;
      this.context.fillStyle = this.colours[state];
      for (const { left, right, top } of boxes[state] ?? []) {
        const width = right - left;
        if (width < 1) this.context.fillRect(Math.floor(left), top + inset, 1, LANE - 2 * inset);
        else this.context.fillRect(left, top + inset, width > 3 ? width - 1 : width, LANE - 2 * inset);
      }
      this.context.fillStyle = this.ink.ground;
      for (const { left, right, top, span } of boxes[state] ?? []) this.write(spans.test[span], state, left, right, top);
    }
  }

  write(test, state, left, right, top) {
    const room = Math.floor((right - left - 6) / LETTER);
    if (right - left < LEAST_TEXT || (state === "succeeded" && room < 6)) return;
    const mark = MARKS[state] ?? "";
    // The end of a name tells more than its packages.
    const name = room < 6 ? "" : test.slice(-(room - (mark ? 2 : 0)));
    if (state === "succeeded") this.context.font = FONT.replace("11px", "9px");
    this.context.fillText(mark && name ? `${mark} ${name}` : mark || name, left + 3, top + LANE / 2 + 0.5);
    if (state === "succeeded") this.context.font = FONT;
  }

  drawHovered(spans, look) {
    const lane = spans.laneOf[look.hovered];
    if (lane === undefined || !spans.isDrawn(look.hovered)) return;
    const top = this.tops[lane] - look.scroll;
    const clip = (time) => Math.min(Math.max(this.x(time, look), this.label), this.width);
    const [queued, start, end] = [spans.queued[look.hovered], spans.started[look.hovered], spans.endOf(look.hovered)].map(clip);
    this.context.fillStyle = this.ink.note;
    this.context.fillRect(queued, top + LANE / 2 - 1, start - queued, 2);
    this.context.fillRect(queued, top + 3, 2, LANE - 6);
    this.context.strokeStyle = this.ink.text;
    this.context.lineWidth = 2;
    this.context.strokeRect(start, top + 1, Math.max(end - start, 2), LANE - 2);
  }

  drawLabels(spans, look) {
    this.context.fillStyle = this.ink.raised;
    this.context.fillRect(0, 0, this.label, this.shown);
    spans.lanes.forEach((lane, place) => {
      if (lane.number !== 0) return;
      const top = this.tops[place] - look.scroll;
      if (top < HEAD - LANE || top > this.shown) return;
      if (place > 0) {
        this.context.fillStyle = this.ink.line;
        this.context.fillRect(0, top - GAP / 2, this.width, 1);
      }
      this.context.fillStyle = this.ink.text;
      this.context.fillText(shortened(lane.slave, Math.floor((this.label - 10) / LETTER)), 6, top + LANE / 2);
    });
  }

  drawHead(spans, ticks, look) {
    this.context.fillStyle = this.ink.raised;
    this.context.fillRect(0, 0, this.width, HEAD);
    this.drawQueue(spans, look);
    this.context.fillStyle = this.ink.quiet;
    for (const time of ticks.times) {
      const x = this.x(time, look);
      if (x + 50 < this.width) this.context.fillText(clock(time, ticks.apart), x + 3, STRIP + 11);
    }
    this.context.fillStyle = this.ink.line;
    this.context.fillRect(0, STRIP, this.width, 1);
    this.context.fillRect(0, HEAD - 1, this.width, 1);
  }

  drawQueue(spans, look) {
    if (spans.size === 0) return;
    const counts = [];
    let most = 1;
    // Nobody knows how many wait after the last moment that is known.
    const until = Math.min(this.x(Math.max(spans.end, spans.now && spans.isLive ? spans.now : 0), look), this.width);
    for (let x = this.label; x < until; x += 1) {
      counts.push(spans.waitingAt(this.time(x, look)));
      most = Math.max(most, counts[counts.length - 1]);
    }
    this.context.fillStyle = this.ink.note;
    counts.forEach((count, place) => {
      const height = (count / most) * (STRIP - 8);
      this.context.fillRect(this.label + place, STRIP - height, 1, height);
    });
    this.context.fillStyle = this.ink.quiet;
    this.context.fillText("waiting", 6, STRIP / 2 - 6);
    this.context.fillText(`≤ ${most}`, 6, STRIP / 2 + 8);
  }
}

// The least round number of milliseconds that is no less than `least`.
function stepOf(least) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5];
  return steps.find((step) => step >= least) ?? Math.ceil(least / 864e5) * 864e5;
}

// A time since the submit, as exact as marks `apart` milliseconds apart need it.
function clock(time, apart = 1) {
  const seconds = Math.floor(time / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const text = parts.slice(parts[0] ? 0 : 1).map((part, place) => (place ? String(part).padStart(2, "0") : part)).join(":");
  return apart < 1000 ? `${text}.${String(Math.floor(time % 1000)).padStart(3, "0")}` : text;
}

function shortened(text, room) {
  return text.length <= room ? text : `…${text.slice(-(room - 1))}`;
}
