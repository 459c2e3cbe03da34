// The filter explorer of famviz: canvases of one pixel a frequency, axis text in DOM and SVG, no library.
// One module, two hosts: anywidget in a notebook, a small model shim in a saved page. It follows parts.js in one text.
function render({ model, el }) {
  const get = (key) => model.get(key), meta = get("_meta"), memo = {};
  const put = (changes) => { for (const key in changes) model.set(key, changes[key]); model.save_changes(); };
  const toBytes = (v) => v && new Uint8Array(v.buffer ?? v, v.byteOffset ?? 0, v.byteLength);
  const bytes = (key) => toBytes(get("_whole")[key] ?? get("_rows")[key]);
  const tables = Object.fromEntries(Object.entries(meta.tables).map(([k, v]) => [k, Uint8Array.from(atob(v), (c) => c.charCodeAt(0))]));

  const sections = (r, l) => (memo[[r, l]] ??= unpack(meta.levels[r]?.[l], bytes(`${r}.${l}.base`))); // null: no such level

  // The chosen filter of a run as complex values; undefined while its row is on the way.
  function field(r, s, forKernel) {
    const L = sections(r, s.level), e = L.epochs.indexOf(s.epoch);
    if (e >= 0) return spread(L, L.life.subarray(e * L.half, (e + 1) * L.half));
    if (s.mean) return spread(L, forKernel ? L.mean[0] : L.rms, L.mean[1]);
    const raw = s.raw && L.raw, size = raw ? L.H * L.W : L.half, key = `${r}.${s.level}`;
    const all = !raw && L.whole && bytes(key), b = all || bytes(`${key}.${s.out}${raw ? ".raw" : ""}`);
    if (!b) return undefined;
    const at = ((all ? s.out * L.C : 0) + s.in) * size, mid = b.length / 2;
    return spread(L, b.subarray(at, at + size), b.subarray(mid + at, mid + at + size), raw);
  }

  function state() {
    const level = clamp(get("level"), 0, meta.levels[0].length - 1), L = sections(0, level);
    const epoch = L.epochs.includes(get("epoch")) ? get("epoch") : 0, other = meta.runs.indexOf(get("other"), 1);
    const B = other > 0 && sections(other, level), fits = B && ["O", "C", "H", "W"].every((k) => B[k] === L[k]);
    return { level, L, epoch, other, B: fits ? B : null, ref: Math.max(L.reference, fits ? B.reference : 0), floor: get("floor"),
      out: clamp(get("c_out"), 0, L.O - 1), in: clamp(get("c_in"), 0, L.C - 1), raw: get("raw"),
      mean: get("mean") || epoch > 0, view: epoch ? "amplitude" : get("view") };
  }

  // The page ---------------------------------------------------------------------------------------------------------
  const nav = panel("nav"), big = panel("main"), second = panel("b"), change = panel("diff");
  const thumbs = Object.keys(VIEWS).map((v) => {
    const canvas = h("canvas");
    return { v, canvas, button: h("button", { className: "fv-thumb", title: VIEWS[v], onclick: () => put({ view: v }) }, canvas, v) };
  });
  const curve = h("svg", { class: "fv-curve", viewBox: "0 0 300 170", role: "img", "aria-label": "radial profile" });
  const readout = h("output", { className: "fv-read", ariaLive: "polite" }), share = h("div", { className: "fv-share" });
  const pick = (key, options) => h("select", { onchange: (e) => put({ [key]: key === "level" ? +e.target.value : e.target.value }) },
    ...options.map(([value, text]) => h("option", { value }, text)));
  const tick = (key) => h("input", { type: "checkbox", onchange: (e) => put({ [key]: e.target.checked }) });
  const go = (at) => put({ epoch: state().L.epochs[at] ?? 0 }), age = h("span");
  const c = {
    level: pick("level", meta.levels[0].map((f, i) => [i, `${f.title}, ${[...f.channels, ...f.size].join("×")}`])),
    view: pick("view", Object.keys(VIEWS).map((v) => [v, v])), mean: tick("mean"), raw: tick("raw"),
    other: pick("other", [["", "nothing"], ...meta.runs.slice(1).map((n) => [n, n])]),
    epoch: h("input", { type: "range", min: 0, oninput: (e) => go(+e.target.value) }),
  };
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; };
  const play = h("button", { title: "replay the filter's life", onclick: () => {
    if (timer) return stop();
    const last = state().L.epochs.length;
    let at = 0;
    timer = setInterval(() => { go(at); if (at++ >= last) stop(); }, 200);
  } }, "▶");
  const box = {}, control = (key, word, ...more) => (box[key] = h("label", { className: "fv-" + key }, word, c[key], ...more));
  const head = h("thead"), body = h("tbody", { tabIndex: 0 });
  body.setAttribute("aria-label", "strongest filters; arrow keys choose");
  const root = h("div", { className: "famviz" },
    h("div", { className: "fv-bar" }, control("level", "level"), control("view", "view"), control("mean", "mean of all"),
      control("raw", "raw"), control("other", "compare with"), control("epoch", "epoch", play, age)),
    h("div", { className: "fv-row" }, nav.root, big.root, second.root, change.root,
      h("div", {}, h("div", { className: "fv-thumbs" }, ...thumbs.map((t) => t.button)), curve, share)),
    readout, h("details", { open: true }, h("summary", {}, "Strongest filters"), h("div", { className: "fv-scroll" }, h("table", {}, head, body))));
  // A key meant for slider, menu or button is no shortcut of the notebook around it, which moves the focus away.
  root.onkeydown = (e) => { if (!(e.ctrlKey || e.metaKey || e.altKey || e.shiftKey)) e.stopPropagation(); };
  el.append(root);

  // Drawing ----------------------------------------------------------------------------------------------------------
  let sort = [2, -1], shown = "", rows = [], order = [], curves = [], queued = 0;
  const later = () => { queued ||= requestAnimationFrame(draw); };
  const choose = (out, inn) => put({ c_out: out, c_in: inn, mean: false, epoch: 0 });

  function showTable(s) {
    const [by, way] = sort;
    if (shown === (shown = [s.level, sort].join())) return;
    order = [...s.L.table].sort((a, b) => way * (a[by] - b[by]));
    head.replaceChildren(h("tr", {}, ...COLUMNS.map((name, i) => {
      const turn = () => { sort = [i, by === i ? -way : -1]; later(); };
      const th = h("th", {}, h("button", { onclick: turn }, name + (i === by ? (way < 0 ? " ↓" : " ↑") : "")));
      if (i === by) th.setAttribute("aria-sort", way < 0 ? "descending" : "ascending");
      return th;
    })));
    rows = order.map((r) => h("tr", { onclick: () => choose(r[0], r[1]) }, ...r.map((v, i) => h("td", {}, num(v, DIGITS[i])))));
    body.replaceChildren(...rows);
  }

  function show(p, s, z, kernel, top, name) { // one spectrum, or in `change` the difference of two
    const { H, W } = s.L, k = s.view === "kernel", unit = k ? " px" : "";
    const { values, colour, key } = shade(tables, s, s.view, z, kernel, top, p === change);
    p.values = values;
    p.draw(H, W, name + VIEWS[s.view], [-(W >> 1) + unit, k ? "x" : "kx", W - (W >> 1) - 1], [-(H >> 1), k ? "y" : "ky", H - (H >> 1) - 1], colour, key);
    if (k) p.lines.replaceChildren(); else outline(p.lines, s.L);
  }

  function showNavigator(s) {
    const { O, C, dip, epochs, now, lives } = s.L, e = epochs.indexOf(s.epoch), codes = e < 0 ? now : lives.subarray(e * O * C, (e + 1) * O * C);
    const colour = (n) => [tables.amplitude, Math.round(clamp(1 - decibel(codes[n]) / dip, 0, 1) * 255)];
    nav.draw(O, C, "filter energy, dB", [0, "input", C - 1], [0, "output", O - 1], colour, [tables.amplitude, num(dip, 0) + " dB", "0 dB"]);
    nav.lines.replaceChildren(...(s.mean ? [] : [h("rect", { x: s.in, y: s.out, width: 1, height: 1 })]));
  }

  function showFields(s, z, b) {
    const full = (f) => polar(f, s);
    const kernel = (r, own) => inverse(s.mean ? field(r, s, true) : own);
    const ka = kernel(0, full(z)), kb = b && kernel(s.other, full(b)), top = Math.max(most(ka), b ? most(kb) : 0) || 1;
    for (const t of thumbs) {
      paint(t.canvas, s.L.H, s.L.W, shade(tables, s, t.v, z, ka, top).colour);
      t.button.setAttribute("aria-pressed", t.v === s.view);
    }
    show(big, s, z, ka, top, b ? `${meta.runs[0]}: ` : "");
    if (b) {
      show(second, s, b, kb, top, `${meta.runs[s.other]}: `);
      const kd = minus(ka, kb), d = difference(z, b, s);
      show(change, s, d, kd, most(s.view === "kernel" ? kd : d.db) || 1, "first minus second: ");
    }
    curves = (b ? [z, b] : [z]).map((f) => Array.from(radial(f), (a) => Math.max(20 * Math.log10(a / s.ref || 1e-30), s.floor)));
    drawCurves(curve, curves, s.floor);
    share.textContent = s.L.share == null ? "" : `whole level on white input: global branch ${percent(s.L.share)} (γ ${num(s.L.gamma[0], 3)}), local ${percent(1 - s.L.share)} (γ ${num(s.L.gamma[1], 3)})`;
    share.style.setProperty("--part", 100 * (s.L.share ?? 0) + "%");
  }

  function draw() {
    queued = 0;
    const s = state(), z = field(0, s), b = s.B && field(s.other, s), epochs = s.L.epochs;
    for (const key of ["level", "view", "other"]) c[key].value = key === "other" ? get(key) : s[key];
    for (const key of ["mean", "raw"]) c[key].checked = s[key];
    c.epoch.max = epochs.length;
    c.epoch.value = s.epoch ? epochs.indexOf(s.epoch) : epochs.length;
    age.textContent = s.epoch || "now";
    for (const [key, there] of [["raw", s.L.raw], ["other", meta.runs.length > 1], ["epoch", epochs.length]]) box[key].hidden = !there;
    second.root.hidden = change.root.hidden = !b;
    root.classList.toggle("fv-two", !!b); // names of runs may take a second line
    showNavigator(s);
    showTable(s);
    rows.forEach((tr, i) => tr.classList.toggle("fv-on", !s.mean && order[i][0] === s.out && order[i][1] === s.in));
    if (z) showFields(s, z, b);
    readout.textContent = !z ? (meta.alone ? "This page does not hold this row: choose a stronger one, or open the run in a notebook." : "loading …")
      : words(s) + (s.other > 0 && !s.B ? ` ${meta.runs[s.other]} has no filter of this shape here.` : "");
    root.dataset.seq = +(root.dataset.seq || 0) + 1;
  }

  // Hands ------------------------------------------------------------------------------------------------------------
  const keys = (e, use) => { if (STEPS[e.key]) { e.preventDefault(); e.stopPropagation(); use(STEPS[e.key], state()); } };
  const cell = (e, H, W) => [e.offsetY / e.target.clientHeight * H, e.offsetX / e.target.clientWidth * W].map((v, i) => clamp(Math.floor(v), 0, (i ? W : H) - 1));
  nav.canvas.onkeydown = (e) => keys(e, ([i, j], s) => choose(clamp(s.out + i, 0, s.L.O - 1), clamp(s.in + j, 0, s.L.C - 1)));
  nav.canvas.onclick = (e) => choose(...cell(e, nav.canvas.height, nav.canvas.width));
  body.onkeydown = (e) => keys(e, ([i], s) => {
    const at = clamp(order.findIndex((r) => r[0] === s.out && r[1] === s.in) + i, 0, order.length - 1);
    choose(order[at][0], order[at][1]);
    rows[at].scrollIntoView({ block: "nearest" });
  });
  for (const p of [big, second, change]) p.canvas.onpointermove = (e) => {
    const { H, W } = state().L, [i, j] = cell(e, H, W);
    if (p.values) readout.textContent = `${p.title.textContent} at x ${num(j - (W >> 1), 0)}, y ${num(i - (H >> 1), 0)}: ${num(p.values[i * W + j], 3)}`;
  };
  curve.onpointermove = (e) => {
    const r = curve.getBoundingClientRect(), n = curves[0].length - 1, at = clamp(Math.round(((e.clientX - r.left) / r.width * 300 - 34) / 256 * n), 0, n);
    readout.textContent = `ring ${at} of ${n}: ` + curves.map((v, i) => (i ? "second run " : "") + num(v[at], 1) + " dB").join(", ");
    for (const [k, v] of [["r", 4], ["cx", 34 + at / Math.max(1, n) * 256], ["cy", 10 + curves[0][at] / get("floor") * 128]]) curve.lastChild.setAttribute(k, v);
  };
  const events = ["level", "c_out", "c_in", "mean", "epoch", "view", "raw", "other", "floor", "_rows"].map((key) => "change:" + key);
  for (const event of events) model.on(event, later);
  draw();
  return () => { stop(); for (const event of events) model.off(event, later); };
}
export default { render };
