// Small arithmetic, and numbers as text.
export const TAU = 2 * Math.PI;

export const mod = (a, n) => ((a % n) + n) % n;
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
export const minus = (v, w) => v.map((value, n) => value - w[n]);
export const largest = (v) => v.reduce((most, value) => Math.max(most, Math.abs(value) || 0), 0);

export const minusSign = (text) => String(text).replaceAll("-", "−");
export const num = (value, digits = 2) => minusSign((+value).toFixed(digits));
export const weight = (value) => minusSign(value ? value.toPrecision(3) : 0);

// A share 0..1 as a percentage that is never rounded to 0 or 100 unless it is, as famviz.style.percent writes it.
export function percent(share) {
  const small = Math.min(share, 1 - share);
  if (small > 0 && small < 1e-5) return share < 0.5 ? "< 0.001 %" : "> 99.999 %";
  const digits = small > 0 && small < 0.01 ? 3 : 0;
  return num(100 * share, digits) + " %";
}

// About `count` round numbers from `low` to `high`, for an axis.
export function ticks(low, high, count = 4) {
  if (!(high > low)) return [low];
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, k) => +((first + k) * step).toPrecision(12));
}
