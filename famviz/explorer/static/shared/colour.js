// Colours of values. A look says how a panel is coloured:
// `colour(n)` is [table, index, brightness] of pixel n, or null; `say(n)` its value in words; `key` the table of the
// colour scale and the words under it, `sides` those at its side.
import { countDrawing } from "./dom.js";
import { clamp } from "./numbers.js";

// Colour tables of 256 colours by name, from base64.
export function decodeTables(coded) {
  const decode = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return Object.fromEntries(Object.entries(coded).map(([name, text]) => [name, decode(text)]));
}

// Values of both signs, 0 in the middle of the table. NaN is left clear; `unknown` says why.
export function shadeSigned(table, values, top, write, unknown) {
  const index = (value) => clamp(Math.round((value / top + 1) / 2 * 255), 0, 255);
  return {
    key: [table, write(-top), write(top)],
    say: (n) => (Number.isNaN(values[n]) ? unknown : write(values[n])),
    colour: (n) => (Number.isNaN(values[n]) ? null : [table, index(values[n])]),
  };
}

// Fill a canvas of one pixel for each value; null is left clear.
export function paint(canvas, H, W, colour) {
  const image = new ImageData(W, H);
  for (let n = 0; n < H * W; n++) {
    const found = colour(n);
    if (!found) continue;
    const [table, index, brightness = 1] = found;
    for (let k = 0; k < 3; k++) image.data[4 * n + k] = Math.round(table[3 * index + k] * brightness);
    image.data[4 * n + 3] = 255;
  }
  putPixels(canvas, image);
}

// Show pixels on a canvas, which takes their size.
export function putPixels(canvas, image) {
  const { width, height } = image;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  countDrawing(canvas);
}
