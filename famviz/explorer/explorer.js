// The filter explorer of famviz: canvases of one pixel a frequency, axis text in DOM and SVG, no library.
// One module, two hosts: anywidget in a notebook, a small model shim in a saved page. It follows parts.js and
// drawing.js in one text.
function render({ model, el }) {
  const get = (key) => model.get(key), meta = get("_meta"), memo = {};
  const put = (changes) => { for (const key in changes) model.set(key, changes[key]); model.save_changes(); };
  const toBytes = (v) => v && new Uint8Array(v.buffer ?? v, v.byteOffset ?? 0, v.byteLength);
  const bytes = (key) => toBytes(get("_whole")[key] ?? get("_rows")[key]);
  const tables = Object.fromEntries(Object.entries(meta.tables).map(([k, v]) => [k, Uint8Array.from(atob(v), (c) => c.charCodeAt(0))]));

  const sections = (r, l) => (memo[[r, l]] ??= unpack(meta.levels[r]?.[l], bytes(`${r}.${l}.base`))); // null: no such level

  // The chosen filter of a run as complex values; undefined while its row is on the way, null for an epoch it did not keep.
  function field(r, s, forKernel) {
    const L = sections(r, s.level), e = L.epochs.indexOf(s.epoch);
    if (s.epoch) return e < 0 ? null : spread(L, L.life.subarray(e * L.half, (e + 1) * L.half));
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
  const readout = h("output", { className: "fv-read", ariaLive: "polite" }), shares = h("div", { className: "fv-shares" });
  const names = h("div", { className: "fv-names" }), save = h("button", { title: "the pictures shown, as a PNG file", onclick: keep }, "save picture");
  const pick = (key, options) => h("select", { onchange: (e) => put({ [key]: key === "level" ? +e.target.value : e.target.value }) },
    ...options.map(([value, text]) => h("option", { value }, text)));
  const tick = (key) => h("input", { type: "checkbox", onchange: (e) => put({ [key]: e.target.checked }) });
  const go = (at) => put({ epoch: state().L.epochs[at] ?? 0 }), age = h("span");
  const c = {
    level: pick("level", meta.levels[0].map((f, i) => [i, `${f.title}, ${[...f.channels, ...f.size].join("×")}`])),
    view: pick("view", Object.keys(VIEWS).map((v) => [v, v])), mean: tick("mean"), raw: tick("raw"),
    other: pick("other", [["", "nothing"], ...meta.runs.slice(1).map((n) => [n, n])]),
    epoch: h("input", { type: "range", min: 0, oninput: (e) => { stop(); go(+e.target.value); } }),
    floor: h("input", { type: "number", min: -80, max: -5, step: 5, onchange: (e) => put({ floor: clamp(+e.target.value || -60, -80, -5) }) }),
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
      control("raw", "raw"), control("other", "compare with"), control("floor", "floor", "dB"), control("epoch", "epoch", play, age)),
    h("div", { className: "fv-row" }, nav.root, big.root, second.root, change.root,
      h("div", { className: "fv-side" }, h("div", { className: "fv-thumbs" }, ...thumbs.map((t) => t.button)), h("div", {}, curve, names), shares)),
    h("div", { className: "fv-say" }, readout, save), h("details", { open: true }, h("summary", {}, "Strongest filters"), h("div", { className: "fv-scroll" }, h("table", {}, head, body))));
  // A key meant for slider, menu or button is no shortcut of the notebook around it, which moves the focus away.
  root.onkeydown = (e) => { if (!(e.ctrlKey || e.metaKey || e.altKey || e.shiftKey)) e.stopPropagation(); };
  box.floor.title = FLOOR_TIP;
  el.append(root);

  // Drawing ----------------------------------------------------------------------------------------------------------
  let sort = [2, -1], shown = "", rows = [], order = [], curves = [], queued = 0, wide = 0, said = "";
  const later = () => { queued ||= requestAnimationFrame(draw); };
  const choose = (out, inn) => put({ c_out: out, c_in: inn, mean: false }); // an epoch stays

  function showTable(s) {
    const [by, way] = sort;
    if (shown === (shown = [s.level, sort].join())) return;
    order = [...s.L.table].sort((a, b) => way * (a[by] - b[by]));
    head.replaceChildren(h("tr", {}, ...COLUMNS.map(([name, , title], i) => {
      const turn = () => { sort = [i, by === i ? -way : -1]; later(); };
      const th = h("th", { title }, h("button", { onclick: turn }, name + (i === by ? (way < 0 ? " ↓" : " ↑") : "")));
      if (i === by) th.setAttribute("aria-sort", way < 0 ? "descending" : "ascending");
      return th;
    })));
    rows = order.map((r) => h("tr", { onclick: () => choose(r[0], r[1]) }, ...r.map((v, i) => h("td", {}, num(v, COLUMNS[i][1])))));
    body.replaceChildren(...rows);
  }

  function frame(p, s, title, look) {
    const { H, W } = s.L, k = s.view === "kernel", unit = k ? " px" : "";
    p.draw(s.box, H, W, title, [-(W >> 1) + unit, k ? "x" : "kx", W - (W >> 1) - 1], [-(H >> 1), k ? "y" : "ky", H - (H >> 1) - 1], look);
    if (k || !look.say) p.lines.replaceChildren(); else outline(p.lines, s.L);
  }
  // One spectrum, or in `change` the difference of two; and nothing, for nothing of the last choice may stand under a new name.
  const show = (p, s, z, kernel, top, name) => frame(p, s, captionOf(s, name), shade(tables, s, s.view, z, kernel, top, p === change));
  const blank = (p, s, title) => frame(p, s, title, { colour: () => null, key: [tables.amplitude], say: null });

  function align() { // titles as high as the highest of them, so that pictures start at one height
    const titles = [nav, big, second, change].map((p) => p.title);
    for (const each of titles) each.style.minHeight = "";
    const highest = Math.max(...titles.map((each) => each.getBoundingClientRect().height));
    for (const each of titles) each.style.minHeight = highest + "px";
  }

  function showNavigator(s) {
    const { O, C } = s.L, { db, low } = energies(s.L, s.epoch), when = s.epoch ? `, epoch ${s.epoch}` : "";
    nav.draw(s.box, O, C, `${s.B ? meta.runs[0] + ": " : ""}filter energy, dB${when}`, [0, "input", C - 1], [0, "output", O - 1],
      { colour: (n) => [tables.energy, Math.round(clamp(1 - db[n] / low, 0, 1) * 255)], key: [tables.energy, num(low, 0) + " dB", "0 dB"],
        say: (n) => num(db[n], 1) + " dB of the strongest" });
    nav.lines.replaceChildren(...(s.mean && !s.epoch ? [] : [h("rect", { x: s.in, y: s.out, width: 1, height: 1 })]));
  }

  function showThumbs(s, z, kernel, top) {
    for (const t of thumbs) {
      t.button.disabled = s.epoch > 0; // of an epoch, no phase is kept
      t.button.setAttribute("aria-pressed", t.v === s.view);
      if (z && (t.v === "amplitude" || !s.epoch)) paint(t.canvas, s.L.H, s.L.W, shade(tables, s, t.v, z, kernel, top).colour);
      else t.canvas.getContext("2d").clearRect(0, 0, t.canvas.width, t.canvas.height);
    }
  }

  function showFields(s, z, b) {
    const kernel = (r, own) => inverse(s.mean ? field(r, s, true) : own);
    const ka = kernel(0, polar(z, s)), kb = b && kernel(s.other, polar(b, s)), top = Math.max(most(ka), b ? most(kb) : 0) || 1;
    showThumbs(s, z, ka, top);
    show(big, s, z, ka, top, s.B ? meta.runs[0] : "");
    if (b) {
      show(second, s, b, kb, top, meta.runs[s.other]);
      const kd = minus(ka, kb), d = difference(z, b, s);
      show(change, s, d, kd, s.view === "kernel" ? most(kd) || 1 : Math.max(1, most(d.db)), "first minus second"); // bytes are good to 0.3 dB
    }
    curves = (b ? [z, b] : [z]).map((f) => Array.from(radial(f), (a) => 20 * Math.log10(a / s.ref || 1e-30)));
    drawCurves(curve, curves, s.floor);
  }

  function showShares(s, b) {
    names.replaceChildren(...(b ? [meta.runs[0], meta.runs[s.other]] : []).map((n, i) => h("span", { className: "fv-name" + i }, n)));
    shares.replaceChildren(...shareBars(s, [[meta.runs[0], s.L], ...(s.B ? [[meta.runs[s.other], s.B]] : [])]));
  }

  function showControls(s) {
    const epochs = s.L.epochs;
    for (const key of ["level", "view", "other"]) c[key].value = key === "other" ? get(key) : s[key];
    for (const key of ["mean", "raw"]) c[key].checked = s[key];
    for (const key of ["view", "mean", "raw"]) c[key].disabled = s.epoch > 0; // the summary of an epoch is all there is
    c.epoch.max = epochs.length;
    c.epoch.value = s.epoch ? epochs.indexOf(s.epoch) : epochs.length;
    c.floor.value = s.floor;
    age.textContent = s.epoch || "now";
    for (const [key, there] of [["raw", s.L.raw], ["other", meta.runs.length > 1], ["epoch", epochs.length]]) box[key].hidden = !there;
    second.root.hidden = change.root.hidden = !s.B;
    root.classList.toggle("fv-two", !!s.B); // names of runs may take a second line
  }

  function draw() {
    queued = 0;
    const s = state(), z = field(0, s), b = s.B ? field(s.other, s) : 0, held = "This page does not hold this row";
    s.box = boxOf(wide, s.B);
    showControls(s);
    showNavigator(s);
    showTable(s);
    showShares(s, b);
    rows.forEach((tr, i) => tr.classList.toggle("fv-on", (!s.mean || s.epoch > 0) && order[i][0] === s.out && order[i][1] === s.in));
    root.classList.toggle("fv-wait", !meta.alone && (z === undefined || b === undefined));
    if (z) showFields(s, z, b);
    else if (meta.alone) { // nothing of the last choice stays
      blank(big, s, held);
      showThumbs(s);
      curve.replaceChildren();
      curves = [];
    }
    if (s.B && (b === null || (meta.alone && !(z && b)))) {
      blank(second, s, `${meta.runs[s.other]}: ` + (b === null ? `no epoch ${s.epoch} kept` : "row not in this page"));
      blank(change, s, "no difference");
    }
    align();
    const missing = s.other > 0 && !s.B ? ` ${meta.runs[s.other]} has no filter of this shape here.`
      : b === null ? ` ${meta.runs[s.other]} kept no epoch ${s.epoch}: it has ${s.B.epochs.join(", ") || "none"}.` : "";
    readout.textContent = said = !z ? (meta.alone ? held + ": choose a stronger one, or open the run in a notebook." : "loading …") : words(s) + missing;
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
  const quiet = () => { // say again what is chosen
    readout.textContent = said;
    curve.lastChild?.setAttribute("r", 0);
  };
  const hover = (p, where) => {
    p.canvas.onpointermove = (e) => {
      const { height: H, width: W } = p.canvas, [i, j] = cell(e, H, W);
      if (p.say) readout.textContent = `${p.title.textContent} at ${where(i, j, H, W)}: ${p.say(i * W + j)}`;
    };
    p.canvas.onpointerleave = quiet;
  };
  hover(nav, (i, j) => `output ${i}, input ${j}`);
  for (const p of [big, second, change]) hover(p, (i, j, H, W) => `x ${num(j - (W >> 1), 0)}, y ${num(i - (H >> 1), 0)}`);
  curve.onpointerleave = quiet;
  curve.onpointermove = (e) => {
    if (!curves.length) return;
    const r = curve.getBoundingClientRect(), n = curves[0].length - 1, at = clamp(Math.round(((e.clientX - r.left) / r.width * 300 - 34) / 256 * n), 0, n);
    const floor = get("floor"), there = curves[0][at] > floor, [cx, cy] = there ? ringAt(Math.max(1, n))(at, curves[0][at], floor) : [0, 0];
    readout.textContent = `ring ${at} of ${n}: ` + curves.map((v, i) => (i ? `${meta.runs[state().other]} ` : "") + (v[at] > floor ? num(v[at], 1) + " dB" : `below ${num(floor, 0)} dB`)).join(", ");
    for (const [k, v] of [["r", there ? 4 : 0], ["cx", cx], ["cy", cy]]) curve.lastChild.setAttribute(k, v);
  };
  function keep() {
    const s = state(), { title } = s.L, name = [meta.runs[0], title, s.epoch ? `epoch ${s.epoch}` : s.mean ? "all" : `${s.out}-${s.in}`, s.view].join("-");
    snapshot([nav, big, second, change].filter((p) => !p.root.hidden), `${title}. ${words(s)}`).toBlob((blob) => {
      const link = h("a", { download: name.replace(/[^\w.]+/g, "-") + ".png", href: URL.createObjectURL(blob) });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }
  const sized = new ResizeObserver(() => { if (wide !== (wide = el.clientWidth)) later(); });
  sized.observe(el);
  wide = el.clientWidth;
  const events = ["level", "c_out", "c_in", "mean", "epoch", "view", "raw", "other", "floor", "_rows"].map((key) => "change:" + key);
  for (const event of events) model.on(event, later);
  draw();
  return () => { stop(); sized.disconnect(); for (const event of events) model.off(event, later); };
}
export default { render };
