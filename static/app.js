// Conveniences on top of pages that work without this file.
"use strict";

// Times in the reader's own zone; the machine-readable attribute stays as it was.
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime()) || time.title) continue;
    time.title = `${time.textContent} UTC`;
    const inLog = time.closest(".log");
    time.textContent = inLog ? moment.toLocaleTimeString() : moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
}
localTimes(document);

// A button beside a secret that copies it.
for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

// Parts of a page that change while it is open: on an event of a named kind the page is loaded again behind the scenes
// and the part is put in its place. What is being typed, opened or held is not taken from under anybody's hands.
const live = [...document.querySelectorAll("[data-live]")].map((part) => part.id);
let held = false;

function isBusy(part) {
  const at = document.activeElement;
  return held || (part.contains(at) && ["INPUT", "TEXTAREA", "SELECT"].includes(at.tagName));
}

function put(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const id of live) {
    const [old, next] = [document.getElementById(id), fresh.getElementById(id)];
    if (!old || !next || isBusy(old)) continue;
    const focus = old.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...old.querySelectorAll("details[open]")].map((d) => d.closest("[id]")?.id);
    old.replaceWith(next);
    for (const each of open) next.querySelector(`#${CSS.escape(each ?? "")} details`)?.setAttribute("open", "");
    localTimes(next);
    board(next);
    // Only now: the board makes its cards focusable.
    if (focus) document.getElementById(focus)?.focus();
  }
}

let refreshing = false;
function refresh() {
  if (refreshing) return;
  refreshing = true;
  setTimeout(async () => {
    refreshing = false;
    const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => undefined);
    if (answer?.ok && !answer.redirected) put(await answer.text());
  }, 150);
}

// A log that is read while it is written.
const log = document.getElementById("log");
const reader = log?.dataset.run && { last: Number(log.dataset.last), paused: false, follows: true, waiting: [] };
const KEPT = 5000;

function addLines(lines) {
  if (reader.paused) {
    reader.waiting.push(...lines);
    return showFound();
  }
  const find = document.getElementById("log-find").value.toLowerCase();
  for (const line of lines) {
    if (line.number <= reader.last) continue;
    reader.last = line.number;
    const row = document.createElement("div");
    row.className = line.level === "warning" ? "line err" : "line";
    const [number, time, text] = ["span", "time", "span"].map((name) => row.appendChild(document.createElement(name)));
    number.className = "number";
    number.textContent = line.number;
    time.dateTime = line.timestamp;
    time.textContent = line.timestamp;
    text.className = "text";
    text.textContent = line.message;
    row.hidden = find !== "" && !line.message.toLowerCase().includes(find);
    log.append(row);
    localTimes(row);
  }
  while (log.childElementCount > KEPT) log.firstElementChild.remove();
  document.getElementById("log-empty")?.remove();
  if (reader.follows) log.scrollTop = log.scrollHeight;
  showFound();
}

async function catchUp() {
  for (;;) {
    const last = reader.waiting.at(-1)?.number ?? reader.last;
    const answer = await fetch(`/api/logs?run_id=${log.dataset.run}&after=${last}&lines=1000`).catch(() => undefined);
    const lines = answer?.ok ? await answer.json() : [];
    if (lines.length === 0) return;
    addLines(lines);
  }
}

function onLine(line) {
  const last = reader.waiting.at(-1)?.number ?? reader.last;
  if (line.number === last + 1) addLines([line]);
  else if (line.number > last) catchUp();
}

function showFound() {
  const found = document.getElementById("log-found");
  const find = document.getElementById("log-find").value;
  const hits = find ? `${log.querySelectorAll(".line:not([hidden])").length} found` : "";
  found.textContent = [hits, reader.waiting.length > 0 ? `${reader.waiting.length} more` : ""].filter(Boolean).join(", ");
}

if (log && reader) {
  document.getElementById("log-tools").hidden = false;
  log.scrollTop = log.scrollHeight;
  const toggle = (id, pressed, act) => {
    const button = document.getElementById(id);
    button.addEventListener("click", () => { pressed = !pressed; button.setAttribute("aria-pressed", pressed); act(pressed); });
    return (now) => { pressed = now; button.setAttribute("aria-pressed", now); };
  };
  const setFollow = toggle("log-follow", true, (on) => { reader.follows = on; if (on) log.scrollTop = log.scrollHeight; });
  toggle("log-pause", false, (on) => {
    reader.paused = on;
    if (!on) addLines(reader.waiting.splice(0));
  });
  // Whoever scrolls up wants to read there.
  log.addEventListener("scroll", () => {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    if (reader.follows !== atEnd) { reader.follows = atEnd; setFollow(atEnd); }
  });
  document.getElementById("log-find").addEventListener("input", (event) => {
    const find = event.target.value.toLowerCase();
    for (const row of log.children) row.hidden = find !== "" && !row.querySelector(".text").textContent.toLowerCase().includes(find);
    showFound();
  });
}

// One stream for a page, and none for a page that nobody sees: a browser opens few connections to one server.
const kinds = new Set([...document.querySelectorAll("[data-live]")].flatMap((part) => part.dataset.live.split(" ")));
if (reader) kinds.add("log");
let stream;

function listen() {
  stream?.close();
  stream = undefined;
  if (document.hidden || kinds.size === 0) return;
  const query = new URLSearchParams({ types: [...kinds].join(",") });
  const { run, since } = document.querySelector("[data-live]")?.dataset ?? {};
  if (run) query.set("run_id", run);
  if (since) query.set("since", since);
  stream = new EventSource(`/api/events?${query}`);
  stream.addEventListener("hello", () => reader && catchUp());
  for (const kind of kinds) {
    stream.addEventListener(kind, (event) => (kind === "log" ? reader && onLine(JSON.parse(event.data)) : refresh()));
  }
  stream.addEventListener("reset", refresh);
}
document.addEventListener("visibilitychange", listen);
window.addEventListener("pagehide", () => stream?.close());
listen();

// The board: cards are dragged, or moved with Alt and the arrow keys, to where they may go.
async function move(card, status, position) {
  const form = new URLSearchParams({ csrf: document.getElementById("board").dataset.csrf, status });
  if (position !== undefined) form.set("position", position);
  const answer = await fetch(`/tasks/${card.id}/move`, { method: "POST", body: form, headers: { accept: "text/html" } });
  if (answer.ok) put(await answer.text());
  else location.reload();
  document.getElementById(card.id)?.focus();
}

function board(root) {
  if (root.id !== "board" || !("moves" in root.dataset)) return;
  const cards = (column) => [...column.querySelectorAll(".task")];
  const may = (card, column) => column === card.closest(".column") || card.dataset.to.split(" ").includes(column.dataset.status);
  let dragged;
  for (const card of root.querySelectorAll(".task")) {
    card.draggable = true;
    card.tabIndex = 0;
    card.addEventListener("dragstart", (event) => {
      [dragged, held] = [card, true];
      card.classList.add("held");
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/plain", card.id);
    });
    card.addEventListener("dragend", () => {
      [dragged, held] = [undefined, false];
      card.classList.remove("held");
      for (const column of root.querySelectorAll(".column")) column.classList.remove("open");
    });
    card.addEventListener("keydown", (event) => {
      if (!event.altKey || event.target !== card) return;
      const column = card.closest(".column");
      const at = cards(column).indexOf(card);
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      const aside = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" }[event.key];
      if (step && cards(column)[at + step]) {
        event.preventDefault();
        move(card, column.dataset.status, at + step);
      } else if (aside) {
        event.preventDefault();
        const next = column[aside];
        if (next && may(card, next)) move(card, next.dataset.status);
      }
    });
  }
  for (const column of root.querySelectorAll(".column")) {
    column.addEventListener("dragover", (event) => {
      if (!dragged || !may(dragged, column)) return;
      event.preventDefault();
      column.classList.add("open");
    });
    column.addEventListener("dragleave", (event) => {
      if (!column.contains(event.relatedTarget)) column.classList.remove("open");
    });
    column.addEventListener("drop", (event) => {
      event.preventDefault();
      const card = dragged;
      held = false;
      const others = cards(column).filter((each) => each !== card);
      const before = others.findIndex((each) => event.clientY < each.getBoundingClientRect().top + each.offsetHeight / 2);
      move(card, column.dataset.status, before === -1 ? others.length : before);
    });
  }
}
for (const part of document.querySelectorAll("[data-live]")) board(part);
