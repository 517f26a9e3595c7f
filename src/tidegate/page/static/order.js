// An order of units in which what is alike stands together.

export const ORDERS = [
  ["likeness", "alike"],
  ["peak", "by peak"],
  ["number", "by number"],
];

// The units' numbers in the given order. states: [T][H].
export function orderUnits(states, order) {
  const units = Array.from(states[0] ?? [], (_, unit) => unit);
  if (order === "number" || states.length < 2) return units;
  if (order === "peak") {
    const peaks = units.map((unit) => peakOf(states, unit));
    return units.sort((a, b) => peaks[a] - peaks[b] || a - b);
  }
  const angles = anglesOf(states, units.length);
  return units.sort((a, b) => angles[a] - angles[b] || a - b);
}

// The step at which a unit is furthest from 0.
function peakOf(states, unit) {
  let best = 0;
  for (let t = 1; t < states.length; ++t)
    if (Math.abs(states[t][unit]) > Math.abs(states[best][unit])) best = t;
  return best;
}

// Each unit's angle in the plane of the two directions along which units differ most: around it,
// like stands beside like.
function anglesOf(states, units) {
  const length = states.length;
  const rows = Array.from({ length: units }, (_, unit) => {
    const row = Float64Array.from(states, (state) => state[unit]);
    const mean = row.reduce((a, b) => a + b, 0) / length;
    const spread = Math.sqrt(row.reduce((sum, x) => sum + (x - mean) ** 2, 0)) || 1;
    return row.map((x) => (x - mean) / spread);
  });
  const first = principal(rows, length, null);
  const second = principal(rows, length, first);
  const angles = rows.map((row) => Math.atan2(dot(row, second), dot(row, first)));
  // Begin at the widest gap, so that no group is torn apart.
  const sorted = [...angles].sort((a, b) => a - b);
  let start = sorted[0] ?? 0;
  let widest = sorted.length ? sorted[0] + 2 * Math.PI - sorted.at(-1) : 0;
  for (let i = 1; i < sorted.length; ++i)
    if (sorted[i] - sorted[i - 1] > widest) {
      widest = sorted[i] - sorted[i - 1];
      start = sorted[i];
    }
  return angles.map((angle) => (angle < start ? angle + 2 * Math.PI : angle));
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; ++i) sum += a[i] * b[i];
  return sum;
}

// The direction [T] with the most variance, at right angles to `other`: by power iteration.
function principal(rows, length, other) {
  let direction = Float64Array.from({ length }, (_, t) => Math.sin(1 + 7 * t)); // no direction's own
  for (let round = 0; round < 30; ++round) {
    const next = new Float64Array(length);
    for (const row of rows) {
      const along = dot(row, direction);
      for (let t = 0; t < length; ++t) next[t] += along * row[t];
    }
    if (other) {
      const along = dot(next, other);
      for (let t = 0; t < length; ++t) next[t] -= along * other[t];
    }
    const size = Math.sqrt(dot(next, next)) || 1;
    direction = next.map((x) => x / size);
  }
  return direction;
}
