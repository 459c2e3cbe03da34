// A stand-in for the widget model in a saved page: the same traits and events, without a kernel.
function shim(values) {
  const listeners = {};
  return {
    get: (key) => values[key],
    set(key, value) {
      if (values[key] === value) return;
      values[key] = value;
      for (const call of listeners["change:" + key] ?? []) call();
    },
    save_changes() {},
    on: (event, call) => (listeners[event] ??= new Set()).add(call),
    off: (event, call) => listeners[event]?.delete(call),
  };
}

function bytesOf(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

window.famviz = [...document.querySelectorAll(".famviz-mount")].map((el) => {
  const { traits, buffers } = JSON.parse(el.querySelector("script").textContent);
  for (const held of Object.values(buffers)) {
    for (const key in held) held[key] = bytesOf(held[key]);
  }
  const model = shim({ ...traits, ...buffers });
  explorer.render({ model, el });
  return model;
});
