// Read values: under the pointer, where a finger touches, or by the arrow keys.
import { h } from "./dom.js";
import { onStep } from "./keyboard.js";
import { clamp } from "./numbers.js";

const FAR = 8; // pixels that an arrow key moves by with shift
const COARSE = 64; // pixels of a side up to which one can be framed

// Row and column of the pixel of a canvas under the pointer.
export function pixelAt(event, { height, width, clientHeight, clientWidth }) {
  const i = Math.floor(event.offsetY / clientHeight * height), j = Math.floor(event.offsetX / clientWidth * width);
  return [clamp(i, 0, height - 1), clamp(j, 0, width - 1)];
}

// Call `tell(i, j)` for the pixel of a panel under the pointer or a finger, and `forget()` when it leaves.
export function onRead(p, tell, forget) {
  const read = (event) => {
    if (p.say) tell(...pixelAt(event, p.canvas));
  };
  p.canvas.addEventListener("pointermove", read);
  p.canvas.addEventListener("pointerdown", read);
  p.canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") forget(); // what a finger chose stays
  });
}

// The same for a panel whose arrow keys are free: they move a mark over its pixels, with shift by 8.
export function onReadKeys(p, tell, forget) {
  let at = null;
  onStep(p.canvas, ([i, j], event) => {
    if (!p.say) return;
    const { height, width } = p.canvas, by = event.shiftKey ? FAR : 1;
    at = at ? [at[0] + by * i, at[1] + by * j] : [height >> 1, width >> 1];
    at = [clamp(at[0], 0, height - 1), clamp(at[1], 0, width - 1)];
    tell(...at);
    markPixel(p, ...at);
  });
  p.canvas.addEventListener("blur", () => {
    at = null;
    p.marks.replaceChildren();
    forget();
  });
}

// A frame around a pixel, or a cross where pixels are too small to have one.
export function markPixel(p, i, j) {
  const { height, width } = p.canvas, arm = Math.max(height, width) / 16, x = j + 0.5, y = i + 0.5;
  const cross = `M${x - arm} ${y}h${2 * arm}M${x} ${y - arm}v${2 * arm}`;
  const small = Math.max(height, width) > COARSE;
  p.marks.replaceChildren(small ? h("path", { d: cross }) : h("rect", { x: j, y: i, width: 1, height: 1 }));
}
