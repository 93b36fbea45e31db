// Sorts tables, filters our runs, copies commands. Without it the page shows the same content.
"use strict";

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
  button.setAttribute("aria-label", `Copy ${code.textContent}`);
  button.addEventListener("click", async () => {
    await copyText(code);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

for (const element of document.querySelectorAll(".needs-script")) element.hidden = false;
for (const table of document.querySelectorAll("table.sortable, figure table")) makeSortable(table);
for (const button of document.querySelectorAll(".copy")) makeCopyable(button);
filterRuns(document.getElementById("filter"), document.getElementById("runs-table"), document.getElementById("matches"));

// The contents: a column of their own on a wide screen, closed behind one line on a narrow one.
const contents = document.querySelector("nav details");
const wide = matchMedia("(min-width: 80rem)");
const fit = () => { contents.open = wide.matches; };
wide.addEventListener("change", fit);
fit();
contents.addEventListener("click", (event) => { if (event.target.closest("a") && !wide.matches) contents.open = false; });

// Paper has nothing to click on.
addEventListener("beforeprint", () => { for (const run of document.querySelectorAll("details.run")) run.open = true; });
