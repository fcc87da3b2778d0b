// A log in its panel (log_panel.html): what is above is loaded into it, what a running attempt writes is added to it, and
// what somebody looks for is marked in what is there. A module, so that its names are its own.

const POLL_MILLISECONDS = 1000;
const LONGEST_POLL_MILLISECONDS = 30000;
const MOST_LIVE_CHARACTERS = 2 ** 22; // of a live log; what is older goes, and comes back with the stored log
const MOST_MARKS = 1000;
// As terminal_text.py has them: codes of terminals, which a live log has no colours for.
const CODES = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]|\x1b/g;

function start(panel) {
  const text = panel.querySelector("pre.log");
  if (text === null) return;
  showBegin(panel, text);
  const above = panel.querySelector(".above a");
  if (above !== null) above.addEventListener("click", (event) => { event.preventDefault(); loadAbove(panel, text); });
  if (panel.dataset.liveLog !== undefined) follow(panel, text);
  watchSearch(panel, text);
}

// The end of a log says what went wrong, unless a line of it was asked for.
function showBegin(panel, text) {
  const line = panel.querySelector("#at");
  if (line === null) text.scrollTop = text.scrollHeight;
  else text.scrollTop += line.getBoundingClientRect().top - text.getBoundingClientRect().top - text.clientHeight / 2;
}

async function loadAbove(panel, text) {
  if (panel.dataset.isLoading !== undefined) return;
  panel.dataset.isLoading = "";
  try {
    const answer = await fetch(`${panel.dataset.piece}&before=${panel.dataset.start}`);
    if (!answer.ok) throw new Error(`${answer.status}`);
    putAbove(panel, text, await answer.json());
  } catch {
    panel.querySelector(".above span").textContent = "It could not be loaded; try again.";
  } finally {
    delete panel.dataset.isLoading;
  }
}

// What was being read stays where it is on the screen.
function putAbove(panel, text, piece) {
  const height = text.scrollHeight;
  const made = new DOMParser().parseFromString(`<pre>\n${piece.html}</pre>`, "text/html").querySelector("pre");
  text.prepend(...made.childNodes);
  text.scrollTop += text.scrollHeight - height;
  panel.dataset.start = piece.start;
  if (piece.start === 0) panel.querySelector(".above").remove();
  else panel.querySelector(".above span").textContent = `${Math.ceil(piece.start / 1024)} KiB above this`;
  panel.dispatchEvent(new CustomEvent("text"));
}

// Live

function follow(panel, text) {
  const state = { offset: 0, run: null, pause: POLL_MILLISECONDS };
  const poll = async () => {
    if (!panel.isConnected) return;
    if (document.visibilityState === "visible" && await pollOnce(panel, text, state)) return;
    setTimeout(poll, state.pause);
  };
  poll();
}

// Whether that was the end.
async function pollOnce(panel, text, state) {
  try {
    const answer = await fetch(`${panel.dataset.liveLog}&offset=${state.offset}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`${answer.status}`);
    const part = await answer.json();
    state.pause = POLL_MILLISECONDS;
    if (state.run !== null && part.run !== state.run) return restart(text, state, part);
    state.run = part.run;
    if (part.is_final && part.is_stored) return await showStored(panel);
    append(text, part);
    state.offset = part.next_offset;
    panel.dispatchEvent(new CustomEvent("text"));
    say(panel, part);
    return part.is_final;
  } catch {
    state.pause = Math.min(state.pause * 2, LONGEST_POLL_MILLISECONDS);
    panel.querySelector(".live-state").textContent = "The master does not answer; trying again.";
    return false;
  }
}

// Another slave runs it now, from its begin.
function restart(text, state, part) {
  text.textContent = "";
  state.offset = 0;
  state.run = part.run;
  return false;
}

function append(text, part) {
  const isAtEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
  const gap = part.left_out_bytes > 0 ? `[${part.left_out_bytes} bytes are not to be had]\n` : "";
  const added = gap + part.data.replace(/\r\n?/g, "\n").replace(CODES, "");
  if (added === "") return;
  text.append(added);
  trim(text);
  if (isAtEnd) text.scrollTop = text.scrollHeight;
}

function trim(text) {
  let length = text.textContent.length;
  while (length > MOST_LIVE_CHARACTERS && text.childNodes.length > 1) {
    length -= text.firstChild.textContent.length;
    text.firstChild.remove();
  }
}

function say(panel, part) {
  const state = panel.querySelector(".live-state");
  const words = part.is_final ? "It has ended; the log of an attempt that succeeds is not kept." : `Live: the attempt is ${part.state}.`;
  if (state.textContent !== words) state.textContent = words;
  const note = panel.querySelector(".note");
  if (note !== null) note.remove();
}

// The page now has the stored log where this one was.
async function showStored(panel) {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (!answer.ok) throw new Error(`${answer.status}`);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(panel.id);
  if (fresh === null || fresh.dataset.piece === undefined) {
    panel.querySelector(".live-state").textContent = "It has ended; load the page again for the log.";
    return true;
  }
  panel.replaceWith(fresh);
  start(fresh);
  return true;
}

// Search in what is loaded

function watchSearch(panel, text) {
  const input = panel.querySelector("input[name=q]");
  if (input === null || !("highlights" in CSS)) return;
  const next = panel.querySelector(".next");
  const search = { ranges: [], place: -1 };
  const update = () => { mark(panel, text, input.value, search); next.hidden = search.ranges.length === 0; };
  input.addEventListener("input", update);
  panel.addEventListener("text", update);
  next.addEventListener("click", () => step(panel, text, search));
  if (input.value !== "") update();
}

function mark(panel, text, wanted, search) {
  search.ranges = wanted === "" ? [] : find(text, wanted);
  search.place = -1;
  CSS.highlights.set("found", new Highlight(...search.ranges));
  const count = search.ranges.length === MOST_MARKS ? `${MOST_MARKS} or more` : `${search.ranges.length}`;
  panel.querySelector(".found").textContent = wanted === "" ? "" : `${count} in what is loaded`;
}

// Upwards from the end, where what went wrong is.
function step(panel, text, search) {
  search.place = (search.place <= 0 ? search.ranges.length : search.place) - 1;
  const range = search.ranges[search.place];
  CSS.highlights.set("current", new Highlight(range));
  const top = range.getBoundingClientRect().top - text.getBoundingClientRect().top;
  text.scrollTop += top - text.clientHeight / 2;
  panel.querySelector(".found").textContent = `${search.place + 1} of ${search.ranges.length} in what is loaded`;
}

// Ranges, since colours split the text into nodes.
function find(text, wanted) {
  const nodes = [];
  const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
  let length = 0;
  while (walker.nextNode()) {
    nodes.push({ node: walker.currentNode, begin: length });
    length += walker.currentNode.length;
  }
  const whole = text.textContent.toLowerCase();
  if (whole.length !== length) return []; // a letter whose small form is longer: offsets would be wrong
  const found = [];
  let at = whole.indexOf(wanted.toLowerCase());
  while (at >= 0 && found.length < MOST_MARKS) {
    found.push(rangeOf(nodes, at, at + wanted.length));
    at = whole.indexOf(wanted.toLowerCase(), at + wanted.length);
  }
  return found;
}

function rangeOf(nodes, begin, end) {
  const range = document.createRange();
  const first = nodeAt(nodes, begin);
  const last = nodeAt(nodes, end - 1);
  range.setStart(first.node, begin - first.begin);
  range.setEnd(last.node, end - last.begin);
  return range;
}

function nodeAt(nodes, offset) {
  let low = 0;
  let high = nodes.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (nodes[middle].begin <= offset) low = middle;
    else high = middle - 1;
  }
  return nodes[low];
}

for (const panel of document.querySelectorAll(".log-view")) start(panel);
