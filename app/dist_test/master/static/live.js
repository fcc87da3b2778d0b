// Pages stay as they are on the server without being loaded anew.
//
// An element with `data-live` is fetched again from the page's own address every few seconds, and changed in place where
// it differs: what is focused, scrolled or unfolded stays so. It needs an id. `data-live` is the number of seconds; an
// element that comes back without it is not asked for again, which is how a page says that it has ended. What has
// `data-keep` inside of it is left alone.

"use strict";

const LONGEST_PAUSE_SECONDS = 60;
let failures = 0;

function elements() {
  return [...document.querySelectorAll("[data-live]")];
}

function isBeingRead() {
  // Text that somebody marks would lose its marks.
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed;
}

async function update() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (!answer.ok) throw new Error(`${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const element of elements()) {
    const fresh = page.getElementById(element.id);
    if (fresh !== null) morph(element, fresh);
  }
  document.dispatchEvent(new CustomEvent("live"));
}

function isKept(node) {
  return node.nodeType === Node.ELEMENT_NODE && "keep" in node.dataset;
}

function morph(element, fresh) {
  Idiomorph.morph(element, fresh, {
    callbacks: {
      // What a script has filled, such as a log that is being read, is that script's.
      beforeNodeMorphed: (node) => !isKept(node),
      beforeNodeRemoved: (node) => !isKept(node),
      // Whether something is unfolded is for who looks to say.
      beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS"),
    },
  });
}

function say(text) {
  const line = document.getElementById("connection");
  if (line !== null && line.textContent !== text) line.textContent = text;
}

async function tick() {
  if (document.visibilityState === "visible" && !isBeingRead()) {
    try {
      await update();
      failures = 0;
      say("");
    } catch {
      failures += 1;
      say("The master does not answer; what is shown is old.");
    }
  }
  wait();
}

function wait() {
  const seconds = elements().map((element) => Number(element.dataset.live)).filter((number) => number > 0);
  if (seconds.length === 0) return;
  const pause = Math.min(Math.min(...seconds) * 2 ** Math.min(failures, 6), LONGEST_PAUSE_SECONDS);
  setTimeout(tick, pause * 1000);
}

wait();

// A button with `data-copy` puts the text of the element with that id on the clipboard; where the browser allows that only
// on https pages, it marks the text instead, ready for the keyboard.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button === null) return;
  const source = document.getElementById(button.dataset.copy);
  if (!window.isSecureContext) {
    document.getSelection().selectAllChildren(source);
    return;
  }
  await navigator.clipboard.writeText(source.textContent.trim());
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
});
