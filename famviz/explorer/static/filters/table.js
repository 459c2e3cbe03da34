// The table of all filters of a level: searched by conditions, sorted, saved.
import { h, saveRows } from "../shared/dom.js";
import { num } from "../shared/numbers.js";
import { makeTable, showTable } from "../shared/table.js";
import { put } from "../shared/widget.js";
import { rowsOf } from "./large.js";
import { choose, readState } from "./state.js";

const COLUMNS = [ // name, digits, unit and convention
  ["out", 0, "output channel, counted from 0"],
  ["in", 0, "input channel, counted from 0"],
  ["energy dB", 1, "mean of |H|² over all frequencies, in dB of the level's strongest filter"],
  ["centroid", 3, "energy-weighted mean radius, as a fraction of Nyquist"],
  ["bandwidth", 3, "energy-weighted standard deviation of the radius, as a fraction of Nyquist"],
  ["angle °", 0, "direction of the waves that carry the energy, 0 to 180°: 0° along x, 90° along y (downwards)"],
  ["coherence", 2, "0 where all directions carry the same energy, 1 where a single one has it all"],
];
const said = (value, digits) => (value == null ? "–" : num(value, digits));
const NAMES = COLUMNS.map(([name]) => name.split(" ")[0]);
const CONDITION = /^\s*([a-z]+)\s*(?:(<=|>=|<|>|=)\s*(-?[\d.]+)|\s(-?[\d.]+)\s*\.\.\s*(-?[\d.]+))\s*$/;
const TESTS = {
  "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, ">": (a, b) => a > b, "=": (a, b) => a === b,
};
const MOST = 200; // rows at first
const TIP = `conditions on ${NAMES.join(", ")}, such as: out = 3, centroid > 0.5, angle 30..60`;

export function buildTable(app) {
  const columns = COLUMNS.map(([name, digits, title]) => ({ name, title, write: (value) => said(value, digits) }));
  const table = makeTable(columns, {
    label: "filters of the level; arrow keys choose",
    choose: ([out, inn]) => choose(app, out, inn),
    sort: [2, -1],
    most: MOST,
    sorted: () => app.redraw(),
  });
  const search = h("input", { type: "search", title: TIP, placeholder: "out = 3, centroid > 0.5, angle 30..60" });
  search.oninput = () => put(app, { search: search.value });
  search.setAttribute("aria-label", TIP);
  const save = h("button", { title: "all rows that the search finds, as a CSV file" }, "save table");
  save.onclick = () => saveTable(app);
  const count = h("span", { ariaLive: "polite" }), summary = h("summary", {}, "Filters of the level");
  const bar = h("div", { className: "fv-bar" }, h("label", {}, "search", search), count, save);
  return { table, search, count, summary, tableRoot: h("details", { open: true }, summary, bar, table.root) };
}

export function showRows(app, s, isOn) {
  const { table, search, count, summary } = app.ui, text = app.model.get("search");
  if (search.value !== text) search.value = text;
  summary.textContent = "Filters of the level" + (s.epoch ? `, epoch ${s.epoch}; – where the run kept no filter` : "");
  if (s.L.large && !s.epoch) return showFound(app, s, isOn, text);
  const key = `${s.level}|${s.epoch}|${text}`;
  if (table.key !== key) {
    const { test, wrong } = conditions(text), all = s.L.rows(s.epoch), rows = wrong ? all : all.filter(test);
    count.textContent = wrong || `${rows.length.toLocaleString("en")} of ${all.length.toLocaleString("en")}`;
    Object.assign(table, { key, rows });
  }
  showTable(table, table.rows, key, isOn);
}

// The rows of a large level that the kernel found, or those of the strongest filters that a saved page holds.
function showFound(app, s, isOn, text) {
  const { table, count } = app.ui, { test, wrong } = conditions(text), { alone } = app.meta;
  const found = wrong && !alone ? app.found[s.L.key] : rowsOf(app, s.L, { search: text, sort: table.sort });
  if (!found) return;
  const rows = alone && !wrong ? found.rows.filter(test) : found.rows, many = (n) => n.toLocaleString("en");
  const all = many(s.L.O * s.L.C), read = found.of < s.L.O * s.L.C ? ` that are read, of ${all}` : "";
  const first = found.count > rows.length ? `, the first ${many(rows.length)} are here` : "";
  count.textContent = wrong || found.failed
    || (alone ? `${many(rows.length)} of the ${many(found.shown)} strongest of ${all}`
      : `${many(found.count)} of ${many(found.of)}${read}${first}`);
  table.key = "";
  showTable(table, rows, `${s.level}|${found.id}|${alone ? text : ""}`, isOn);
}

// A test of rows from conditions between commas, and what is wrong with them. Names may be abbreviated.
function conditions(text) {
  const tests = [];
  for (const part of text.toLowerCase().split(",").filter((each) => each.trim())) {
    const found = part.match(CONDITION), at = found ? NAMES.findIndex((name) => name.startsWith(found[1])) : -1;
    if (at < 0) return { test: () => true, wrong: `"${part.trim()}" is not understood. Write ${TIP}` };
    const [, , sign, value, from, to] = found;
    tests.push((row) => row[at] != null && (sign ? TESTS[sign](row[at], +value) : row[at] >= +from && row[at] <= +to));
  }
  return { test: (row) => tests.every((test) => test(row)), wrong: "" };
}

function saveTable(app) {
  const { order } = app.ui.table, { L, epoch } = readState(app);
  const digits = ([, digits], k) => (row) => (k < 2 ? row[k] : row[k]?.toFixed(digits + 2) ?? "");
  const write = COLUMNS.map(digits);
  const rows = order.map((row) => write.map((of) => of(row)));
  const when = epoch ? [`epoch ${epoch}`] : [];
  saveRows([COLUMNS.map(([name]) => name), ...rows], [app.meta.runs[0], L.title, ...when, "filters"].join("-"));
}
