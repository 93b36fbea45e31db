// Sorts tables, filters our runs, copies commands, follows the reader in the contents, turns the page dark. Without it
// the page shows the same content.
"use strict";

// Light or dark as chosen before, else as the system has it. In the head, so that the page appears in its colours.
const root = document.documentElement;
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ?? (systemIsDark.matches ? "dark" : "light")) === "dark";

function remembered(write) { // some browsers keep the storage from local files
  try { return write === undefined ? localStorage.getItem("theme") : localStorage.setItem("theme", write); } catch { return null; }
}

const chosenTheme = remembered();
if (chosenTheme === "light" || chosenTheme === "dark") root.dataset.theme = chosenTheme;

function offerThemes(button) {
  const name = () => { button.textContent = isDark() ? "Light page" : "Dark page"; };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered(root.dataset.theme);
    name();
  });
  systemIsDark.addEventListener("change", name);
  name();
}

const ABSENT = /^(–|-|\?|N\/A)?$/;
const NUMBER = /^[<>≈±×+]*\s*(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)([kM]\b)?/;
const UNITS = { k: 1e3, M: 1e6 };
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

const textOf = (row, column) => row.cells[column].textContent.trim().replace(/−/g, "-");

function numberOf(text) {
  const match = NUMBER.exec(text.replace(/(\d),(?=\d{3}\b)/g, "$1"));
  return match ? Number(match[1]) * (UNITS[match[2]] ?? 1) : NaN;
}

// Rows between rules are sorted among themselves. What stands above or below the rows proper is no game and stays where
// it is: aggregates, marked by an arrow, and groups that are small beside the largest.
function rowGroups(body) {
  const groups = [[]];
  for (const row of body.rows) {
    if (row.classList.contains("rule")) groups.push([]);
    groups.at(-1).push(row);
  }
  const largest = Math.max(...groups.map((rows) => rows.length));
  const isFixed = (rows) => rows.length * 4 < largest || rows.some((row) => /[↑↓]/.test(textOf(row, 0)));
  return groups.filter((rows) => rows.length).map((rows) => ({ rows, fixed: isFixed(rows) }));
}

function compare(column, numeric) {
  return (one, other) => {
    const [left, right] = [textOf(one, column), textOf(other, column)];
    return numeric ? numberOf(left) - numberOf(right) : left.localeCompare(right, "en", { numeric: true });
  };
}

// By number where all are numbers, else by text; what has no value stays last in either direction.
function sorted(rows, column, direction) {
  const isAbsent = (row) => ABSENT.test(textOf(row, column));
  const numeric = rows.every((row) => isAbsent(row) || !Number.isNaN(numberOf(textOf(row, column))));
  const present = rows.filter((row) => !isAbsent(row)).sort(compare(column, numeric));
  if (direction === "descending") present.reverse();
  return [...present, ...rows.filter(isAbsent)];
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const regular = [...body.rows].every((row) => row.cells.length === headers.length);
  if (body.rows.length < 2 || !regular) return;
  const groups = rowGroups(body);

  const sort = (header, column) => {
    const direction = NEXT[header.getAttribute("aria-sort") ?? "none"];
    for (const other of headers) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", direction);
    for (const [index, { rows, fixed }] of groups.entries()) {
      const ordered = fixed || direction === "none" ? rows : sorted(rows, column, direction);
      ordered.forEach((row, place) => row.classList.toggle("rule", index > 0 && place === 0));
      body.append(...ordered);
    }
  };
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(header, column));
  });
}

function filterRuns(input, table, output) {
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, index) => { row.hidden = !words.every((word) => texts[index].includes(word)); });
    output.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  input.addEventListener("input", apply);
  apply();
}

async function copyText(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch { // some browsers keep the clipboard from local files
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
}

function makeCopyable(button) {
  const code = button.previousElementSibling;
  const say = (word) => {
    button.textContent = word;
    button.setAttribute("aria-label", `${word}: ${code.textContent}`);
  };
  say("Copy");
  button.addEventListener("click", async () => {
    await copyText(code);
    say("Copied");
    setTimeout(say, 1500, "Copy");
  });
}

// The films of one article begin at the same time.
function playTogether(button) {
  button.addEventListener("click", () => {
    for (const video of button.closest("article").querySelectorAll("video")) {
      video.currentTime = 0;
      video.play().catch(() => {}); // not every browser has the codec
    }
  });
}

// Tables and figures that are wider than their place: they fade where they go on, and the keyboard reaches them.
function showEdges(box) {
  const hidden = box.scrollWidth - box.clientWidth;
  box.classList.toggle("more-left", box.scrollLeft > 1);
  box.classList.toggle("more-right", box.scrollLeft < hidden - 1);
  if (hidden > 1) box.tabIndex = 0; else box.removeAttribute("tabindex");
  const picture = box.querySelector(".sheet > img[data-labels]");
  if (hidden > 1 && picture && !box.querySelector(".labels")) keepLabels(picture);
}

// A copy of the labels on the left of a figure, over it while it scrolls.
function keepLabels(picture) {
  const labels = document.createElement("div");
  const copy = picture.cloneNode();
  labels.className = "labels";
  labels.style.width = `${picture.dataset.labels}px`;
  copy.alt = "";
  copy.style.clipPath = `inset(0 ${picture.width - picture.dataset.labels}px 0 0)`;
  labels.append(copy);
  picture.before(labels);
}

function watchEdges(boxes) {
  const observer = new ResizeObserver((entries) => { for (const entry of entries) showEdges(entry.target); });
  for (const box of boxes) {
    observer.observe(box);
    box.addEventListener("scroll", () => showEdges(box), { passive: true });
  }
}

// A link to what is folded opens it.
function reveal(id) {
  const target = id && document.getElementById(id);
  for (let one = target?.closest("details"); one; one = one.parentElement.closest("details")) one.open = true;
  target?.scrollIntoView();
}

// The contents mark where the reader is: at the last target above a line, near the top of the window, and at the end of
// the page, where targets no longer reach the top, at a third of it.
function followReader(links, here) {
  const targets = links.map((link) => document.getElementById(link.hash.slice(1)));
  let current = null;
  const mark = () => {
    const below = root.scrollHeight - innerHeight - scrollY;
    const line = Math.max(140, innerHeight / 3 - below);
    let last = 0;
    for (const [index, target] of targets.entries()) {
      const box = target.getBoundingClientRect();
      if (box.top <= line && box.height) last = index;
    }
    if (links[last] === current) return;
    current?.removeAttribute("aria-current");
    current = links[last];
    current.setAttribute("aria-current", "location");
    here.textContent = current.textContent;
    const column = current.closest("nav");
    const [top, height] = [current.getBoundingClientRect().top, column.clientHeight];
    if (column.scrollHeight > height && (top < 60 || top > height - 60)) column.scrollTop += top - height / 2;
  };
  let waiting = false;
  const later = () => {
    if (!waiting) requestAnimationFrame(() => { waiting = false; mark(); });
    waiting = true;
  };
  addEventListener("scroll", later, { passive: true });
  addEventListener("resize", later);
  later(); // not now: it needs the places of everything
}

// Paper has nothing to click on.
function openForPaper() {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
}

// The contents: a column of their own on a wide screen, closed behind one line on a narrow one.
function fitContents(contents) {
  const wide = matchMedia("(min-width: 80rem)");
  const fit = () => { contents.open = wide.matches; };
  wide.addEventListener("change", fit);
  fit();
  contents.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && !wide.matches) contents.open = false;
  });
}

function start() {
  const all = (selector) => [...document.querySelectorAll(selector)];
  for (const element of all(".needs-script")) element.hidden = false;
  offerThemes(document.getElementById("theme"));
  for (const table of all("table.sortable, figure table")) makeSortable(table);
  for (const button of all(".copy")) makeCopyable(button);
  for (const button of all(".together")) playTogether(button);
  const table = document.getElementById("runs-table");
  if (table) filterRuns(document.getElementById("filter"), table, document.getElementById("matches"));
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
    for (const video of all(".film video")) video.play().catch(() => {}); // not every browser has the codec
  }
  fitContents(document.querySelector("nav details"));
  addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link) reveal(decodeURIComponent(link.hash.slice(1)));
  });
  addEventListener("hashchange", () => reveal(decodeURIComponent(location.hash.slice(1))));
  watchEdges(all(".scroll, .card"));
  openForPaper();
  if (location.hash) reveal(decodeURIComponent(location.hash.slice(1)));
  followReader(all("nav a"), document.getElementById("here"));
}

addEventListener("DOMContentLoaded", start);
