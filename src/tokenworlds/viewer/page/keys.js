// Keyboard and touch: what is held goes to the game, what is a command is sent once.

const FORM = "input, select, textarea, meter";
const PRESSED_BY = [" ", "Enter"]; // on a button or link with the focus
const ARROWS = { ArrowUp: "w", ArrowLeft: "a", ArrowDown: "s", ArrowRight: "d" };
const SIGNS = { ArrowUp: "▲", ArrowLeft: "◀", ArrowDown: "▼", ArrowRight: "▶" };
const DEAD = 0.22, DIAGONAL = 0.42; // of the joystick's radius; of the sine of its angle

export const keyName = (key) => ({ " ": "Space", ArrowUp: "↑", ArrowLeft: "←", ArrowDown: "↓", ArrowRight: "→" })[key]
  ?? (key.length === 1 ? key.toUpperCase() : key);

export class Keys {
  constructor(send, stage, plays, onRefused) {
    Object.assign(this, { send, stage, plays, onRefused, held: new Map(), touched: new Map(), sent: "", messages: new Map(), game: new Set() });
    addEventListener("keydown", (event) => this.down(event));
    addEventListener("keyup", (event) => this.up(event));
    addEventListener("blur", () => this.release());
    document.addEventListener("visibilitychange", () => document.hidden && this.release());
  }

  learn(keys) {
    this.messages = new Map(keys.filter(({ message }) => message).map(({ key, message }) => [key, message]));
    this.game = new Set(keys.filter(({ message }) => !message).map(({ key }) => key));
  }

  down(event) {
    if (event.key === "Escape") this.stage.blur(); // Tab goes on from there
    const isShortcut = (event.ctrlKey || event.altKey) && !event.getModifierState("AltGraph"); // AltGr may be both
    if (isShortcut || event.metaKey || this.belongsToPage(event)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const message = this.messages.get(key), plays = this.game.has(key) && this.plays();
    if (!message && !plays) return void (this.game.has(key) && this.onRefused());
    event.preventDefault();
    if (event.repeat) return;
    if (message) return void this.send(message);
    this.held.set(event.code || key, key); // by place: Shift changes a key's name between down and up
    this.tell();
  }

  up(event) {
    if (this.held.delete(event.code || event.key)) this.tell();
  }

  belongsToPage({ key }) {
    const focus = document.activeElement ?? document.body;
    if (focus.matches(FORM)) return true;
    if (key === "Tab") return focus !== this.stage;
    return PRESSED_BY.includes(key) && focus.matches("button, a, summary");
  }

  touch(pointer, keys) {
    keys.length ? this.touched.set(pointer, keys) : this.touched.delete(pointer);
    this.tell();
  }

  release() {
    this.held.clear();
    this.touched.clear();
    this.tell();
  }

  tell() {
    const keys = [...new Set([...this.held.values(), ...[...this.touched.values()].flat()])].sort();
    if (keys.join("\n") !== this.sent) this.send({ keys });
    this.sent = keys.join("\n");
    for (const button of document.querySelectorAll("#pad [data-key]")) {
      button.classList.toggle("held", keys.includes(button.dataset.key));
    }
  }
}

// Buttons for fingers: a joystick of the directions, and one button each for the rest.
export function makePad(pad, keys, card) {
  const game = card.filter(({ message }) => !message), label = new Map(game.map((one) => [one.key, one.label]));
  const directions = Object.entries(ARROWS).map(([arrow, letter]) => [arrow, label.has(letter) ? letter : arrow])
    .filter(([, key]) => label.has(key));
  const taken = new Set(directions.map(([, key]) => label.get(key))), buttons = [];
  for (const { key, label: text } of game) {
    if (!taken.has(text) && !isCombination(text, game)) buttons.push(makeButton(key, text));
    taken.add(text);
  }
  const rest = document.createElement("div");
  rest.className = "rest";
  rest.append(...buttons);
  for (const button of buttons) {
    follow(button, (event) => (event ? [button.dataset.key] : []), keys);
  }
  pad.replaceChildren(...(directions.length ? [makeStick(directions, label, keys)] : []), rest);
  pad.classList.toggle("many", buttons.length > 6);
}

// Whether an action is reached by holding buttons of others: "upfire" by "up" and "fire".
function isCombination(text, game) {
  const others = game.map(({ label }) => label).filter((other) => other !== text && /^\w+$/.test(other));
  return others.length > 0 && new RegExp(`^(${others.join("|")}){2,}$`).test(text);
}

function makeButton(key, text, sign = text) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: sign, tabIndex: -1 });
  button.dataset.key = key;
  button.setAttribute("aria-label", text);
  return button;
}

function makeStick(directions, label, keys) {
  const stick = document.createElement("div"), known = new Map(directions);
  stick.className = "stick";
  stick.setAttribute("role", "group");
  stick.setAttribute("aria-label", "Directions");
  stick.append(...directions.map(([arrow, key]) => {
    const button = makeButton(key, label.get(key), SIGNS[arrow]);
    button.classList.add(arrow);
    return button;
  }));
  follow(stick, (event) => {
    if (!event) return [];
    const box = stick.getBoundingClientRect();
    const x = (event.clientX - box.x) / box.width * 2 - 1, y = (event.clientY - box.y) / box.height * 2 - 1;
    const length = Math.hypot(x, y);
    if (length < DEAD) return [];
    const beyond = (value) => value / length > DIAGONAL;
    return [["ArrowRight", x], ["ArrowLeft", -x], ["ArrowDown", y], ["ArrowUp", -y]]
      .filter(([arrow, value]) => beyond(value) && known.has(arrow)).map(([arrow]) => known.get(arrow));
  }, keys);
  return stick;
}

// Calls `held` with the events of each finger on an element, and with null when it leaves the screen.
function follow(element, held, keys) {
  element.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    keys.touch(event.pointerId, held(event));
  });
  element.addEventListener("pointermove", (event) => {
    if (element.hasPointerCapture(event.pointerId)) keys.touch(event.pointerId, held(event));
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    element.addEventListener(end, (event) => keys.touch(event.pointerId, held(null)));
  }
  element.addEventListener("contextmenu", (event) => event.preventDefault());
}
