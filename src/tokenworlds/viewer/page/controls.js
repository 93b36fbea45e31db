// Buttons, settings and help, made from what the session says there is.

import { keyName } from "./keys.js";

const SEGMENTS = 3; // choices up to this many are buttons side by side
const SLOW = 150; // milliseconds between values of a slider that is being moved

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function makeCommands(place, commands, send) {
  const buttons = new Map(commands.map(({ do: name, label, key }) => {
    const button = element("button", { type: "button", onclick: () => send({ do: name }) }, label);
    if (key) button.append(" ", element("kbd", { ariaHidden: "true" }, keyName(key)));
    return [name, button];
  }));
  place.replaceChildren(...buttons.values());
  return buttons;
}

// Returns a function that shows the values of a status.
export function makeSettings(form, controls, send) {
  const fields = controls.settings.map((setting) => {
    const set = (value) => send({ set: setting.name, value });
    const make = { choice: makeChoice, number: makeNumber, flag: makeFlag, several: makeSeveral }[setting.kind];
    return [setting.name, make(setting, set, controls)];
  });
  form.replaceChildren(...fields.map(([, { node }]) => node));
  form.onsubmit = (event) => event.preventDefault();
  return (status) => {
    for (const [name, field] of fields) {
      if (name in status && !field.node.contains(document.querySelector("#settings :active"))) field.show(status[name]);
    }
  };
}

function makeChoice({ name, label, choices }, set) {
  if (choices.length > SEGMENTS) {
    const select = element("select", { id: `set-${name}`, onchange: () => set(select.value) },
      ...choices.map((choice) => element("option", { value: choice }, choice)));
    const node = element("p", {}, element("label", { htmlFor: select.id }, label), select);
    return { node, show: (value) => { if (document.activeElement !== select) select.value = value; } };
  }
  const inputs = choices.map((choice) => element("input", {
    type: "radio", name, value: choice, id: `set-${name}-${choice.replaceAll(" ", "-")}`, onchange: () => set(choice),
  }));
  const labels = inputs.map((input) => element("span", {}, input, element("label", { htmlFor: input.id }, input.value)));
  const node = element("fieldset", { className: "segments" }, element("legend", {}, label),
    element("div", {}, ...labels));
  return { node, show: (value) => inputs.forEach((input) => { input.checked = input.value === value; }) };
}

function makeNumber({ name, label, min, max, step }, set) {
  const output = element("output", { htmlFor: `set-${name}` });
  let timer = null;
  const input = element("input", {
    type: "range", id: `set-${name}`, min, max, step, oninput: () => {
      output.value = input.value;
      timer ??= setTimeout(() => {
        timer = null;
        set(Number(input.value));
      }, SLOW);
    },
  });
  const node = element("p", {}, element("label", { htmlFor: input.id }, label), output, input);
  return {
    node,
    show: (value) => {
      node.hidden = value === null;
      if (timer === null && value !== null) [input.value, output.value] = [value, value];
    },
  };
}

function makeFlag({ name, label }, set) {
  const input = element("input", { type: "checkbox", id: `set-${name}`, onchange: () => set(input.checked) });
  const node = element("p", { className: "flag" }, input, element("label", { htmlFor: input.id }, label));
  return { node, show: (value) => { input.checked = value; } };
}

function makeSeveral({ name, label, choices }, set, controls) {
  const known = new Map((controls[name] ?? []).map((one) => [one.name, one])), boxes = [];
  const chosen = () => boxes.filter((box) => box.checked).map((box) => box.value);
  const lines = choices.map((choice) => {
    const { available = true, why = "" } = known.get(choice) ?? {};
    const box = element("input", {
      type: "checkbox", value: choice, id: `set-${name}-${choice.replaceAll(/\W/g, "-")}`, disabled: !available,
      onchange: () => set(chosen()),
    });
    boxes.push(box);
    const text = element("label", { htmlFor: box.id, title: why }, choice);
    return element("span", { className: "flag" }, box, text);
  });
  const node = element("fieldset", { className: "several" }, element("legend", {}, label), element("div", {}, ...lines));
  return { node, show: (value) => boxes.forEach((box) => { box.checked = value.includes(box.value); }) };
}

export function makeHelp(list, keys) {
  const meanings = new Map();
  for (const { key, label } of keys) meanings.set(label, [...(meanings.get(label) ?? []), key]);
  list.replaceChildren(...[...meanings].map(([label, names]) => element("div", {},
    element("dt", {}, ...names.flatMap((name) => [element("kbd", {}, keyName(name)), " "])), element("dd", {}, label))));
}

// Sliders of continuous actions; a double click or the button centres them.
export function makeSliders(place, names, send) {
  const inputs = names.map((name, index) => element("input", {
    type: "range", id: `action-${index}`, min: -1, max: 1, step: 0.01, value: 0, oninput: tell, ondblclick: centre,
  }));
  function tell() {
    send({ action: inputs.map((input) => Number(input.value)) });
  }
  function centre({ currentTarget }) {
    for (const input of inputs) if (currentTarget === input || currentTarget.type === "button") input.value = 0;
    tell();
  }
  place.replaceChildren(
    ...inputs.map((input, index) => element("p", {}, element("label", { htmlFor: input.id }, names[index]), input)),
    element("button", { type: "button", onclick: centre }, "Centre"));
}

// Links to finished files; what is there already stays, so that a playing film goes on.
export function showFiles(list, names) {
  for (const item of [...list.children]) if (!names.includes(item.dataset.name)) item.remove();
  const there = new Set([...list.children].map((item) => item.dataset.name));
  for (const name of names) {
    if (there.has(name)) continue;
    const address = `files/${encodeURIComponent(name)}`, item = element("li");
    item.dataset.name = name;
    if (name.endsWith(".mp4")) {
      item.append(element("video", { src: address, controls: true, loop: true, preload: "metadata", ariaLabel: name }));
    }
    item.append(element("a", { href: address, download: name }, name));
    list.prepend(item);
  }
}
