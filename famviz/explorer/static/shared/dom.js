// Elements of a page.
const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = ["svg", "g", "path", "rect", "text", "circle", "line", "title"];
const FOCUSABLE = ["canvas", "input", "select", "button", "tbody", "summary"];

// A new element with properties or attributes and children. Elements that take keys keep them from Notebook 7 and
// JupyterLab, whose shortcuts would else move to another cell or delete this one before the key arrives here.
export function h(tag, properties = {}, ...children) {
  const vector = SVG_TAGS.includes(tag);
  const node = vector ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (FOCUSABLE.includes(tag)) node.setAttribute("data-lm-suppress-shortcuts", "true");
  for (const [name, value] of Object.entries(properties)) {
    if (!vector && name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// Tests wait for this number to change.
export function countDrawing(node) {
  node.dataset.seq = +(node.dataset.seq || 0) + 1;
}

// Offer a canvas as a PNG file.
export function saveAs(canvas, name) {
  canvas.toBlob((blob) => saveBlob(blob, name + ".png"));
}

// Offer rows, the first of them their names, as a CSV file.
export function saveRows(rows, name) {
  const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const text = rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  saveBlob(new Blob([text], { type: "text/csv" }), name + ".csv");
}

function saveBlob(blob, name) {
  const href = URL.createObjectURL(blob);
  h("a", { download: name.replace(/[^\w.]+/g, "-"), href }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}
