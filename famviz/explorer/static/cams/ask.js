// Questions to the kernel, one after the other: first what is shown now, then what is next, then all the rest.
import { mapsOf, readState } from "./state.js";

const FIRST = 4; // images in the first question of a kind
const MOST = 32;
const GOAL = 250; // ms that an answer should take, so that a click is answered soon
const PATIENCE = 60_000; // ms after which an answer is no longer expected

export function makeAsker(app) {
  const asker = { app, busy: "", since: 0, size: { facts: FIRST, maps: FIRST }, urgent: "", refused: new Set() };
  app.asker = asker;
  return asker;
}

// Ask for what is missing. Called after every drawing and every answer.
export function ask(asker) {
  const { app } = asker;
  if (app.meta.alone) return;
  const s = readState(app);
  askNow(asker, s);
  if (asker.busy && performance.now() - asker.since < PATIENCE) return;
  const question = next(asker, s);
  if (!question) return;
  Object.assign(asker, { busy: JSON.stringify(question), since: performance.now() });
  app.model.send(question);
}

// The chosen image does not wait for an answer that is on its way.
function askNow(asker, s) {
  const wants = `${s.key}|${s.image}`, { app } = asker;
  if (asker.urgent === wants || asker.refused.has(wants)) return;
  asker.urgent = wants;
  if (!app.pictures.has(s.image)) send(app, { ask: "pictures", positions: [s.image] });
  if (!s.shown) send(app, { ask: "maps", positions: [s.image], ...choiceOf(s) });
}

const send = (app, question) => app.model.send(question);
const choiceOf = ({ method, layer, target }) => ({ method, layer, target });

// What to ask next; null if nothing is missing or the explorer is paused.
function next(asker, s) {
  const { app } = asker, { size } = asker;
  const wall = s.list.slice(app.first, app.first + app.cells);
  const noFacts = (image) => !app.facts.has(image) && !asker.refused.has(`facts|${image}`);
  const onWall = wall.filter(noFacts);
  if (onWall.length) return { ask: "facts", positions: onWall.slice(0, size.facts) };
  const beside = [-1, 1].map((step) => s.list[s.list.indexOf(s.image) + step]);
  const pictures = beside.filter((image) => image != null && !app.pictures.has(image));
  if (pictures.length) return { ask: "pictures", positions: pictures };
  const noArea = s.areas && s.shown && s.names.find((name) => lacksArea(app, s, name));
  if (noArea) return { ask: "areas", position: s.image, network: noArea, ...choiceOf(s) };
  const noCka = s.view === "CKA" && !app.similar.has(s.other) && !asker.refused.has(`cka|${s.other}`);
  if (noCka) return { ask: "cka", other: s.other };
  if (app.paused) return null;
  const facts = app.meta.images.filter(noFacts);
  if (facts.length) return { ask: "facts", positions: facts.slice(0, size.facts) };
  const order = [...s.list, ...app.meta.images.filter((image) => !s.list.includes(image))];
  const maps = order.filter((image) => !mapsOf(app, s.key, image) && !asker.refused.has(`${s.key}|${image}`));
  if (maps.length) return { ask: "maps", positions: maps.slice(0, size.maps), ...choiceOf(s) };
  const embedded = s.plot === "embedding" || s.view === "embedding";
  if (embedded && app.pointsOf !== app.facts.size) return { ask: "embedding" };
  return null;
}

function lacksArea(app, s, name) {
  return !s.shown[name].refused && !app.areas.has(`${s.key}|${s.image}|${name}`);
}

// After an answer: ask for more at a time if it came quickly, for less if it was slow.
export function answered(asker, { kind, positions, question }) {
  if (kind === "failed") {
    const about = question.ask === "maps" ? [question.method, question.layer, question.target].join("|") : question.ask;
    for (const each of question.positions ?? [question.other]) asker.refused.add(`${about}|${each}`);
  }
  const waited = asker.busy && JSON.parse(asker.busy);
  const same = waited && (kind === "failed" || waited.ask === kind)
    && String(waited.positions ?? "") === String(positions ?? question?.positions ?? "");
  if (!same) return;
  const size = asker.size[kind], took = performance.now() - asker.since;
  if (size && took < GOAL / 2) asker.size[kind] = Math.min(MOST, size * 2);
  if (size && took > GOAL) asker.size[kind] = Math.max(1, size >> 1);
  asker.busy = "";
}
