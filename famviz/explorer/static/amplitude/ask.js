// Questions to the kernel, one after the other: first what is shown now, then what the band needs, then all the rest.
import { most, mapsOf, bandsOf } from "./state.js";
import { COUNT } from "./images.js";

const PATIENCE = 120_000; // ms after which an answer is no longer expected

export function makeAsker(app) {
  app.asker = { app, busy: "", since: 0, refused: new Set() };
  return app.asker;
}

// Ask for what is missing. Called after every drawing and every answer.
export function ask(asker, s) {
  const { app } = asker;
  if (app.meta.alone || (asker.busy && performance.now() - asker.since < PATIENCE)) return;
  const question = wanted(app, s).find((each) => !asker.refused.has(JSON.stringify(each)));
  if (!question) return;
  Object.assign(asker, { busy: JSON.stringify(question), since: performance.now() });
  app.model.send(question);
}

// Everything that is missing, the most urgent first.
function wanted(app, s) {
  const look = { window: s.window, epoch: s.epoch }, list = [];
  const one = s.image >= 0 && !app.planes.has(`${s.look}|${s.image}`);
  if (!s.mean) list.push({ ask: "spectra", ...look });
  if (one) list.push({ ask: "planes", position: s.image, ...look });
  if (!mapsOf(app, s, s.subject)) list.push({ ask: "maps", position: s.subject, epoch: s.epoch });
  if (s.mean && !s.complete) list.push({ ask: "spectra", ...look, after: s.mean.count });
  const { reference, relative } = s, bands = bandsOf(app, s);
  if (s.complete && bands?.count !== s.mean.count) list.push({ ask: "bands", reference, relative, ...look });
  if (s.complete && !app.cells.has(s.look)) list.push({ ask: "cells", ...look });
  const shown = [...most(app, s, COUNT).map(([image]) => image), s.subject];
  const positions = [...new Set(shown)].filter((image) => !app.thumbs.has(image));
  if (positions.length) list.push({ ask: "thumbs", positions });
  return list;
}

// After an answer the next question may go. What was refused is not asked again.
export function answered(asker, { kind, question }) {
  if (kind === "failed") asker.refused.add(JSON.stringify(question));
  asker.busy = "";
}
