// How far each run is: a row of a table for each, in which only what changed is written again.
import { h } from "../shared/dom.js";
import { short, write } from "./charts.js";
import { lastOf } from "./state.js";

const HEADS = ["run", "epoch", "", "last", "best", "teacher", "images/s", "time"];

export function showProgress(root, s) {
  const key = JSON.stringify(s.runs.map(({ name }) => name));
  if (root.dataset.key !== key) {
    root.dataset.key = key;
    root.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, ...HEADS.map((head) => h("th", {}, head)))),
      h("tbody", {}, ...s.runs.map((run) => buildRow(run, s.runs.length > 1)))));
    root.querySelector("tbody").tabIndex = -1;
  }
  const column = s.figure || s.scores[0], heads = root.querySelectorAll("th");
  write(heads[3], column ? `last ${column}` : "last");
  s.runs.forEach((run, n) => fillRow(root.querySelectorAll("tbody tr")[n].children, run, column));
}

function buildRow({ n, name }, several) {
  const swatch = h("svg", { width: 24, height: 10, viewBox: "0 0 24 10" },
    h("path", { d: "M1 5H23", class: `fv-curve-line fv-c${n % 8} fv-d0` }));
  const bar = h("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", `epochs done of ${name}`);
  const first = h("td", { title: name }, ...(several ? [swatch] : []), h("span", {}, name));
  return h("tr", {}, first, h("td"), h("td", {}, bar), ...Array.from({ length: 5 }, () => h("td")));
}

function fillRow(cells, run, column) {
  const values = (run.columns[column] ?? []).filter((value) => value != null);
  const best = values.length ? Math.max(...values) : null;
  const share = run.finished ? 1 : run.epoch / run.epochs, bar = cells[2].firstChild;
  if (bar.value !== share) bar.value = share;
  const texts = {
    1: `${run.epoch} of ${run.epochs}`,
    3: said(lastOf(run, column)), 4: said(best), 5: said(run.teacher[column]),
    6: said(lastOf(run, "images_per_s")), 7: timeOf(run),
  };
  for (const at in texts) write(cells[at], texts[at]);
}

const said = (value) => (value == null ? "–" : short(value));

function timeOf({ finished, left, took }) {
  if (finished) return `finished after ${duration(took)}`;
  return left == null ? "waiting for the first epoch" : `about ${duration(left)} left`;
}

// Seconds in words of at most two units.
function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
