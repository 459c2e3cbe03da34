// Single filters as epochs of a training kept them: encode.kept_filters writes the bytes.

// For each epoch of a level a Map from the pair of channels to {amplitude, phase, figures}; `figures` are those of the
// table without the energy. `counts` says how many filters each epoch kept.
export function unpackKept({ counts, half, scales }, bytes) {
  const total = counts.reduce((sum, count) => sum + count, 0), columns = scales.length;
  if (!bytes || !total) return counts.map(() => new Map());
  let at = 0;
  const next = (length) => bytes.slice(at, (at += length)); // whose numbers may begin at any byte
  const pairs = new Uint32Array(next(4 * total).buffer);
  const amplitude = next(total * half), phase = next(total * half);
  const codes = new Uint16Array(next(2 * columns * total).buffer);
  let n = 0;
  return counts.map((count) => new Map(Array.from({ length: count }, () => {
    const own = [n * half, (n + 1) * half], figures = scales.map((scale, k) => codes[k * total + n] / scale);
    return [pairs[n++], { amplitude: amplitude.subarray(...own), phase: phase.subarray(...own), figures }];
  })));
}

// A filter of a level after an epoch; undefined if it was not kept.
export function keptOf(L, epoch, out, inn) {
  return L.kept()[L.epochs.indexOf(epoch)]?.get(out * L.C + inn);
}
