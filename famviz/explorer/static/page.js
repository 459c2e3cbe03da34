// A stand-in for the widget model in a saved page: the same traits and events, without a kernel.
function shim(values) {
  const listeners = {};
  const emit = (event, ...given) => listeners[event]?.forEach((call) => call(...given));
  return {
    emit,
    get: (key) => values[key],
    set(key, value) {
      if (values[key] === value) return;
      values[key] = value;
      emit("change:" + key);
    },
    save_changes() {},
    send() {}, // nobody answers: the page holds all messages
    on: (event, call) => (listeners[event] ??= new Set()).add(call),
    off: (event, call) => listeners[event]?.delete(call),
  };
}

function decoded(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

// `widgets` are the modules by name. What a kernel would send one after the other is there from the beginning.
window.famviz = [...document.querySelectorAll(".famviz-mount")].map((el) => {
  const { traits, buffers, messages } = JSON.parse(el.querySelector("script").textContent);
  for (const held of Object.values(buffers)) {
    for (const key in held) held[key] = decoded(held[key]);
  }
  const model = shim({ ...traits, ...buffers });
  widgets[el.dataset.widget].render({ model, el });
  for (const [content, parts] of messages) model.emit("msg:custom", content, parts.map(decoded));
  return model;
});
