import { connect } from "./socket.js";
import { element, makeCommands, makeHelp, makeSettings, makeSliders, showFiles } from "./controls.js";
import { Keys, makePad } from "./keys.js";
import { makeStage } from "./stage.js";
import { makeTrace } from "./trace.js";

const $ = (id) => document.getElementById(id);
const NUMBERS = [ // name in the status, label
  ["file", "File"], ["episode", "Episode"], ["step", "Step"], ["return", "Return"], ["action_label", "Action"], ["reward", "Reward"], ["value", "Value"],
  ["entropy", "Entropy"], ["predicted_reward", "Predicted reward"], ["predicted_end", "Predicted end"], ["tokens_changed", "Changed tokens"], ["drift", "Drift from the real game"],
];
const ANSWERS = ["save", "discard"]; // commands that answer a question
const SECONDS = 6; // that a message stays

let controls = null, status = {}, showSettings = () => {}, commands = new Map(), cells = new Map(), timer = null;
const draw = makeStage($("stage")), trace = makeTrace($("trace"));
const human = () => status.player === "human" || !("player" in status);
const send = connect({ onState, onControls, onError: say, draw: onFrame });
const keys = new Keys(send, $("stage"), human, () => say("The agent plays; choose “human” to play yourself."));
$("stage").focus({ preventScroll: true });

function onState(connected) {
  $("connection").textContent = connected ? "Connected" : "Reconnecting";
  $("connection").classList.toggle("off", !connected);
  $("lost").hidden = connected;
  keys.release();
}

function onControls(news) {
  if (JSON.stringify(news) === JSON.stringify(controls)) return; // the same program is back
  controls = news;
  document.title = `${controls.title} · tokenworlds`;
  $("title").textContent = controls.title;
  keys.learn(controls.keys);
  commands = makeCommands($("commands"), controls.commands.filter(({ do: name }) => !ANSWERS.includes(name)), send);
  $("ask").replaceChildren($("question"), ...makeCommands(element("div"),
    controls.commands.filter(({ do: name }) => ANSWERS.includes(name)), send).values());
  showSettings = makeSettings($("settings"), controls, send);
  makeHelp($("keys"), controls.keys);
  $("tab-note").hidden = !controls.keys.some(({ key }) => key === "Tab");
  $("help").open = matchMedia("(min-width: 60rem)").matches;
  makePad($("pad"), keys, controls.keys);
  makeSliders($("sliders"), controls.actions.names ?? [], send);
}

function onFrame(frame) {
  draw(frame.panels);
  status = { ...frame.status, files: frame.files };
  showSettings(status);
  showNumbers();
  showMemory();
  trace(status);
  if (status.message) say(status.message);
  $("ask").hidden = !status.asks;
  if (status.asks && $("question").textContent !== status.asks) $("question").textContent = status.asks;
  for (const [name, state] of [["record", status.recording], ["pause", status.paused]]) {
    commands.get(name)?.setAttribute("aria-pressed", Boolean(state));
  }
  $("recordings").hidden = !status.recording && !status.files?.length;
  $("writing").hidden = !status.recording;
  if (status.recording) $("writing").textContent = `${status.recording.file}: ${status.recording.frames} frames`;
  showFiles($("files"), status.files ?? []);
  $("pad").hidden = !human() || controls.actions.kind !== "discrete";
  $("sliders").hidden = !human() || controls.actions.kind !== "continuous";
}

function showNumbers() {
  for (const [name, label] of NUMBERS) {
    if (!(name in status)) continue;
    if (!cells.has(name)) {
      const value = element("dd");
      cells.set(name, value);
      $("numbers").append(element("div", { className: name }, element("dt", {}, label), value));
    }
    const cell = cells.get(name), text = format(status[name]);
    if (cell.textContent !== text) cell.textContent = text;
    if (name === "reward") cell.parentElement.className = status.reward > 0 ? "gain" : status.reward < 0 ? "loss" : "";
  }
}

function format(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "object") {
    const known = Object.entries(value).filter(([, one]) => one !== null);
    return known.map(([name, one]) => `${name} ${format(one)}`).join(", ") || "–";
  }
  if (typeof value !== "number") return String(value).replaceAll("_", " ").toLowerCase();
  return Number.isInteger(value) && Math.abs(value) < 1e6 ? String(value) : value.toFixed(Math.abs(value) < 100 ? 2 : 0);
}

function showMemory() {
  const used = status.memory_used ?? null;
  $("memory").hidden = used === null;
  if (used === null) return;
  $("memory-meter").max = status.memory;
  $("memory-meter").value = used;
  $("memory-text").textContent = `${used} of ${status.memory} frames`;
}

function say(text) {
  if ($("message").textContent !== text) $("message").textContent = text;
  clearTimeout(timer);
  timer = setTimeout(() => { $("message").textContent = ""; }, SECONDS * 1000);
}

// What the mouse or a finger has chosen does not keep the keys from the game.
let pointed = false;
addEventListener("pointerdown", () => { pointed = true; }, true);
addEventListener("keydown", () => { pointed = false; }, true);
for (const event of ["click", "change"]) {
  document.addEventListener(event, ({ target }) => {
    if (!pointed || (event === "click" && target.closest("select, a, video, summary, input[type=range]"))) return;
    $("stage").focus({ preventScroll: true });
  });
}
