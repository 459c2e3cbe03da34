// Menus, boxes and sliders. `use` is called with the value that the user chose.
import { h } from "./dom.js";

// A menu of [[value, text], ...].
export function menu(options, use) {
  const select = h("select", { onchange: (event) => use(event.target.value) });
  setOptions(select, options);
  return select;
}

// Replace the options of a menu, unless they are what it has; [value, text, true] is shown and cannot be chosen.
export function setOptions(select, options) {
  const now = JSON.stringify(options);
  if (select.dataset.options === now) return;
  select.dataset.options = now;
  const items = options.map(([value, text, disabled = false]) => h("option", { value, disabled }, text));
  select.replaceChildren(...items);
}

export function checkbox(use) {
  return h("input", { type: "checkbox", onchange: (event) => use(event.target.checked) });
}

export function slider({ min = 0, max = 1, step = 0.01 }, use) {
  return h("input", { type: "range", min, max, step, oninput: (event) => use(+event.target.value) });
}

// A control with its name, as one line of a bar.
export function labelled(name, text, ...parts) {
  return h("label", { className: "fv-" + name }, text, ...parts);
}
