// Keys: steps by arrows, keys that belong to the widget, and their help.
import { h } from "./dom.js";

const STEPS = {
  ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-8, 0], PageDown: [8, 0],
};

// Call a function with the rows and columns that an arrow key moves by; the key does nothing else.
export function onStep(node, use) {
  node.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    use(step, event);
  });
}

// Call the function of a key. In text fields keys write, and in menus they choose.
export function onKeys(root, uses) {
  root.addEventListener("keydown", (event) => {
    const writes = event.target.matches("input:not([type=range], [type=checkbox]), select");
    const use = uses[event.key];
    if (!use || writes || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    use(event);
  });
}

// Keep keys for a slider, a menu or a button from the notebook, whose shortcuts would move the focus away.
export function keepKeys(root) {
  root.addEventListener("keydown", (event) => {
    const modified = event.ctrlKey || event.metaKey || event.altKey || event.shiftKey;
    if (!modified) event.stopPropagation();
  });
}

// A button that opens and closes a list of keys, [[key, what it does], ...], and the list.
export function keyHelp(lines) {
  const terms = lines.flatMap(([keys, words]) => [h("dt", {}, ...named(keys)), h("dd", {}, words)]);
  const list = h("dl", { className: "fv-keys", hidden: true }, ...terms);
  const button = h("button", { title: "keys and mouse", ariaExpanded: "false" }, "? keys");
  const toggle = () => {
    list.hidden = !list.hidden;
    button.ariaExpanded = String(!list.hidden);
  };
  button.onclick = toggle;
  return { button, list, toggle };
}

function named(keys) {
  return keys.split(" ").map((key) => h("kbd", {}, key));
}
