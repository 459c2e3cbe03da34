// A picture to save: the panels side by side on white, with titles, outlines, axes and colour scales.
import { h } from "./dom.js";
import { KEY_HEIGHT } from "./panel.js";

const SHEET = { scale: 2, left: 52, top: 42, below: 64, line: 14, gap: 62 }; // px; `below`: axis text and colour scale
const FONT = "11px sans-serif", BOLD = "bold 12px sans-serif";
const TITLE_LINE = 16; // px

// The panels as one canvas, the caption in as many lines as it needs.
export function snapshot(panels, caption) {
  const tallest = Math.max(...panels.map((p) => sizeOf(p)[1]));
  const width = panels.reduce((sum, p) => sum + roomOf(p), 0) + SHEET.left;
  const sheet = h("canvas"), context = sheet.getContext("2d");
  context.font = FONT;
  const lines = wrapped(context, caption, width - SHEET.left - 10);
  context.font = BOLD;
  const titles = panels.map((p) => titleOf(context, p));
  const lower = TITLE_LINE * Math.max(0, ...titles.map((title) => title.length - 2)); // room for more than two lines
  const height = tallest + SHEET.top + lower + SHEET.below + SHEET.line * lines.length;
  Object.assign(sheet, { width: SHEET.scale * width, height: SHEET.scale * height });
  context.scale(SHEET.scale, SHEET.scale);
  Object.assign(context, { fillStyle: "#fff", imageSmoothingEnabled: false });
  context.fillRect(0, 0, sheet.width, sheet.height);
  let x = SHEET.left;
  panels.forEach((p, i) => {
    titles[i].forEach((line, n) => write(context, line, x, TITLE_LINE * (n + 1), { room: roomOf(p) - 10, font: BOLD }));
    context.save();
    context.translate(0, lower);
    copyPicture(context, p, x);
    copyAxes(context, p, x);
    if (p.say) copyScale(context, p, x);
    context.restore();
    x += roomOf(p);
  });
  lines.forEach((line, i) => write(context, line, SHEET.left, height - 8 - SHEET.line * (lines.length - 1 - i), {}));
  return sheet;
}

const sizeOf = (p) => [parseFloat(p.canvas.style.width), parseFloat(p.canvas.style.height)];
const roomOf = (p) => Math.max(sizeOf(p)[0], 150) + SHEET.gap;

// A text in lines that are no wider than `room`.
function wrapped(context, text, room) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = (lines.at(-1) + " " + word).trim();
    if (lines.at(-1) && context.measureText(longer).width > room) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

function write(context, text, x, y, { room, align = "left", font = FONT }) {
  Object.assign(context, { font, textAlign: align, fillStyle: "#222" });
  context.fillText(text, x, y, room);
}

// The name of the network or run and the view, each in as many lines as it needs.
function titleOf(context, p) {
  const [first, ...rest] = p.title.textContent.split(": ");
  return [first, rest.join(": ")].flatMap((text) => wrapped(context, text, roomOf(p) - 10));
}

function copyPicture(context, p, x) {
  const [width, height] = sizeOf(p);
  context.fillStyle = "#bbb"; // shows where a pixel has no colour
  context.fillRect(x, SHEET.top, width, height);
  context.drawImage(p.canvas, x, SHEET.top, width, height);
  context.save();
  context.translate(x, SHEET.top);
  context.scale(width / p.canvas.width, height / p.canvas.height);
  Object.assign(context, { strokeStyle: "#ff5d5d", lineWidth: 2 * p.canvas.width / width });
  for (const path of p.lines.querySelectorAll("path")) context.stroke(new Path2D(path.getAttribute("d")));
  for (const rect of p.lines.querySelectorAll("rect")) {
    context.strokeRect(+rect.getAttribute("x"), +rect.getAttribute("y"), 1, 1);
  }
  context.restore();
}

function copyAxes(context, p, x) {
  const [width, height] = sizeOf(p), { across, down } = p.texts;
  down.forEach((text, i) => copyDown(context, text, x - 6, i, height));
  across.forEach((text, i) => {
    const align = ["left", "center", "right"][i];
    write(context, text, x + i * width / 2, SHEET.top + 14 + height, { room: width / 2, align });
  });
}

// The first and the last text of the axis at the left stand at its ends; the name in the middle is turned.
function copyDown(context, text, x, i, height) {
  if (i !== 1) return write(context, text, x, SHEET.top + (i ? height : 9), { align: "right" });
  context.save();
  context.translate(x - 4, SHEET.top + height / 2);
  context.rotate(-Math.PI / 2);
  write(context, text, 0, 0, { align: "center" });
  context.restore();
}

function copyScale(context, p, x) {
  const [width, height] = sizeOf(p), { ends } = p.texts;
  const top = SHEET.top + 22 + height, tall = p.bar.height > 1 ? KEY_HEIGHT : 9, bar = Math.max(width, 130);
  context.drawImage(p.bar, x, top, bar, tall);
  const last = ends.length - 1;
  ends.forEach((text, i) => {
    const align = i === 0 ? "left" : i === last ? "right" : "center";
    write(context, text, x + i * bar / last, top + 12 + tall, { room: bar / 2 + 10, align });
  });
}
