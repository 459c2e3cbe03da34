
// A saved page plays the kernel: the same traits and events, nobody behind them.
function shim(values) {
  const heard = {};
  return {
    get: (key) => values[key],
    set(key, value) {
      if (values[key] === value) return;
      values[key] = value;
      for (const call of heard["change:" + key] ?? []) call();
    },
    save_changes() {},
    on: (event, call) => (heard[event] ??= new Set()).add(call),
    off: (event, call) => heard[event]?.delete(call),
  };
}
const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const explorers = [];
for (const el of document.querySelectorAll(".famviz-mount")) {
  const { traits, buffers } = JSON.parse(el.querySelector("script").textContent);
  for (const name in buffers) for (const key in buffers[name]) buffers[name][key] = bytesOf(buffers[name][key]);
  const model = shim({ ...traits, ...buffers });
  explorer.render({ model, el });
  explorers.push(model);
}
window.famviz = explorers;
