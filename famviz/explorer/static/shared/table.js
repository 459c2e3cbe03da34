// A table whose columns sort, and whose rows are chosen by a click or the arrow keys.
import { h } from "./dom.js";
import { onStep } from "./keyboard.js";
import { clamp } from "./numbers.js";

// `columns` are {name, title, write(value)}. `choose(row)` is called with the row that the user chose. Call
// `showTable(table, rows, key, isOn)` to draw: the rows are built again only if `key` or the order changed. Of many
// rows the first `most` are built, and a button builds as many more. `sorted()` is called when another order is chosen.
export function makeTable(columns, { label, choose, sort = [0, 1], most = Infinity, sorted = () => {} }) {
  const head = h("thead"), body = h("tbody", { tabIndex: 0 });
  body.setAttribute("aria-label", label);
  const table = {
    root: h("div", { className: "fv-scroll" }, h("table", {}, head, body)),
    columns, choose, head, body, sort, sorted, most, limit: most, order: [], lines: [], built: "", shown: null,
  };
  table.more = h("button", { className: "fv-more", hidden: true, onclick: () => showMore(table) });
  table.root.append(table.more);
  onStep(body, ([step]) => {
    const now = table.lines.findIndex((line) => line.classList.contains("fv-on"));
    if (!table.lines.length) return;
    const at = clamp(now + step, 0, table.lines.length - 1);
    choose(table.order[at]);
    table.lines[at].scrollIntoView({ block: "nearest" });
  });
  return table;
}

export function showTable(table, rows, key, isOn) {
  const [by, direction] = table.sort, wanted = JSON.stringify([key, table.sort]);
  table.shown = [rows, key, isOn];
  if (table.built !== wanted) {
    Object.assign(table, { built: wanted, limit: table.most, lines: [] });
    table.order = [...rows].sort((a, b) => direction * compare(a[by], b[by]));
    table.body.replaceChildren();
    buildLines(table);
    table.head.replaceChildren(h("tr", {}, ...table.columns.map((column, i) => buildHeader(table, column, i))));
  }
  table.lines.forEach((line, i) => line.classList.toggle("fv-on", isOn(table.order[i])));
}

// The rows up to the limit that are not built yet.
function buildLines(table) {
  const { order, lines, limit, most } = table;
  const added = order.slice(lines.length, limit).map((row) => buildRow(table, row));
  lines.push(...added);
  table.body.append(...added);
  const left = order.length - lines.length;
  table.more.hidden = !left;
  table.more.textContent = `show ${Math.min(most, left)} more of ${left}`;
}

function showMore(table) {
  table.limit += table.most;
  buildLines(table);
  showTable(table, ...table.shown);
}

// Numbers by size, words by letter, what is missing last in either direction of a first sort.
function compare(a, b) {
  if (a === b) return 0;
  if (a == null || b == null) return a == null ? 1 : -1;
  return a < b ? -1 : 1;
}

function buildRow({ columns, choose }, row) {
  const cells = columns.map(({ write }, i) => h("td", {}, write(row[i])));
  return h("tr", { onclick: () => choose(row) }, ...cells);
}

// A click sorts by the column, the largest first; a second one in the other direction.
function buildHeader(table, { name, title }, i) {
  const [by, direction] = table.sort, falling = direction < 0;
  const onclick = () => {
    table.sort = [i, by === i ? -direction : -1];
    showTable(table, ...table.shown);
    table.sorted();
  };
  if (i !== by) return h("th", { title }, h("button", { onclick }, name));
  const th = h("th", { title }, h("button", { onclick }, name + (falling ? " ↓" : " ↑")));
  th.setAttribute("aria-sort", falling ? "descending" : "ascending");
  return th;
}
