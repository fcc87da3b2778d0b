// The durations of a test's runs as dots over time. Without it the table below says the same.

"use strict";

// How each outcome looks: failures are told from successes by shape too.
const LOOKS = [
  { outcome: "succeeded", label: "succeeded", colour: "--good", size: 6, isFilled: true },
  { outcome: "failed", label: "failed", colour: "--bad", size: 10, isFilled: false },
  { outcome: "timed_out", label: "timed out", colour: "--bad", size: 12, isFilled: true },
];

const REACH_PIXELS = 16;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function written(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 60) return `${Number(seconds.toPrecision(3))} s`;
  return seconds < 3600 ? `${Number((seconds / 60).toPrecision(3))} min` : `${Number((seconds / 3600).toPrecision(3))} h`;
}

// dots: [moment, seconds, outcome, address of the log], in the order of the moments.
function columnsOf(dots) {
  const ofOutcome = ({ outcome }) => dots.map((dot) => (dot[2] === outcome ? dot[1] : null));
  return [dots.map((dot) => dot[0]), ...LOOKS.map(ofOutcome)];
}

function seriesOf({ label, colour: name, size, isFilled }) {
  const stroke = colour(name);
  return {
    label,
    stroke,
    paths: () => null,
    points: { show: true, size, width: 2, stroke, fill: isFilled ? stroke : colour("--ground") },
    value: (_, seconds) => written(seconds),
  };
}

function axis() {
  return { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
}

function optionsOf(element, isLogarithmic) {
  return {
    width: element.clientWidth,
    height: 280,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    cursor: { drag: { x: true, y: false }, points: { show: false } },
    scales: {
      x: { time: true, range: (_, low, high) => padded(low, high) },
      y: isLogarithmic ? { distr: 3 } : { range: (_, low, high) => [0, Math.max(high * 1.05, 0.1)] },
    },
    // As the dots are: full or hollow.
    legend: { markers: { fill: (_, place) => (place > 0 && LOOKS[place - 1].isFilled ? colour(LOOKS[place - 1].colour) : null) } },
    series: [{ label: "ended (UTC)", value: (_, seconds) => (seconds == null ? "" : moment(seconds)) }, ...LOOKS.map(seriesOf)],
    axes: [{ ...axis(), space: 80, values: days }, { ...axis(), size: 64, values: (_, marks) => marks.map((mark) => (mark === null ? "" : written(mark))) }],
  };
}

// Marks a day or more apart are days, others moments.
function days(_, marks, place, space, apart) {
  return marks.map((mark) => moment(mark).slice(5, apart < 86_400 ? 16 : 10));
}

// Room for the first dot and the last.
function padded(low, high) {
  const room = Math.max((high - low) * 0.02, 60);
  return [low - room, high + room];
}

function moment(seconds) {
  return new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
}

class Plot {
  constructor(section) {
    this.section = section;
    this.element = section.querySelector(".chart");
    this.dots = JSON.parse(this.element.dataset.dots);
    this.button = section.querySelector(".scale");
    section.hidden = false;
    this.make();
  }

  get isLogarithmic() {
    return this.button.getAttribute("aria-pressed") === "true";
  }

  make() {
    this.chart?.destroy();
    this.chart = new uPlot(optionsOf(this.element, this.isLogarithmic), columnsOf(this.dots), this.element);
    this.chart.over.addEventListener("click", () => this.open());
  }

  // A drag ends with a click too; it has chosen a range by then.
  open() {
    const { left, top } = this.chart.cursor;
    if (left < 0 || this.chart.select.width > 0) return;
    const away = ([at, seconds]) => Math.hypot(this.chart.valToPos(at, "x") - left, this.chart.valToPos(seconds, "y") - top);
    const nearest = this.dots.reduce((best, dot) => (away(dot) < away(best) ? dot : best));
    if (away(nearest) < REACH_PIXELS) location.assign(nearest[3]);
  }

  turn() {
    this.button.setAttribute("aria-pressed", String(!this.isLogarithmic));
    this.make();
  }

  resize() {
    this.chart.setSize({ width: this.element.clientWidth, height: 280 });
  }
}

const durationsSection = document.getElementById("durations");
if (durationsSection !== null) {
  const plot = new Plot(durationsSection);
  durationsSection.plot = plot;
  plot.button.addEventListener("click", () => plot.turn());
  new ResizeObserver(() => plot.resize()).observe(plot.element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.make());
}
