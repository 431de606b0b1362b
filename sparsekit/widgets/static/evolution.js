// A run as its first connections and the ones that each rewiring flips. These functions only count, so node tests them.

/** Return where each layer begins among all positions, and where each layer of units begins among all units. */
export function shapeOf(layers) {
  const starts = [0], units = [layers[0][1], ...layers.map(([rows]) => rows)], first = [0];
  for (const [rows, cols] of layers) starts.push(starts.at(-1) + rows * cols);
  for (const count of units) first.push(first.at(-1) + count);
  return { layers, starts, units, first };
}

/** Return the unit that each position reads and the one that it feeds. */
export function linksOf({ layers, starts, first }, at) {
  const from = new Int32Array(at.length), to = new Int32Array(at.length);
  for (let k = 0, layer = 0; k < at.length; k++) {
    while (at[k] >= starts[layer + 1]) layer++;
    const inside = at[k] - starts[layer], cols = layers[layer][1];
    from[k] = first[layer] + (inside % cols); to[k] = first[layer + 1] + Math.floor(inside / cols);
  }
  return { from, to };
}

/** Say which units and connections lie on a path from an input to an output. Positions come layer by layer. */
export function onPaths(shape, { from, to }) {
  const count = shape.first.at(-1), down = new Uint8Array(count).fill(1, 0, shape.units[0]);
  const up = new Uint8Array(count).fill(1, shape.first.at(-2));
  for (let k = 0; k < from.length; k++) if (down[from[k]]) down[to[k]] = 1;
  for (let k = from.length - 1; k >= 0; k--) if (up[to[k]]) up[from[k]] = 1;
  const works = down.map((is, unit) => is & up[unit]);
  return { works, live: Uint8Array.from(from, (unit, k) => down[unit] & up[to[k]]) };
}

/** Count the hidden units that lie on no path. */
export const idleUnits = (shape, works) => works.slice(shape.units[0], shape.first.at(-2)).reduce((sum, is) => sum + 1 - is, 0);

/** Decode a run once: `frames[k]` has the increasing positions after `k` rewirings. */
export function openRun(run) {
  const bytes = bytesOf(run.positions);
  let { at: from, out: now } = takePositions(bytes, run.count, 0);
  const frames = [now];
  for (const flips of run.flips) {
    const taken = takePositions(bytes, flips, from);
    from = taken.at; now = flipped(now, taken.out); frames.push(now);
  }
  return { ...run, frames };
}

function takePositions(bytes, count, at) {
  const out = positions(bytes, count, at);
  for (let k = 0; k < count; at++) if (bytes[at] < 128) k++;
  return { at, out };
}

/** Return what is in exactly one of two increasing lists. */
export function flipped(one, other) {
  const out = [];
  let i = 0, j = 0;
  while (i < one.length || j < other.length) {
    if (j >= other.length || one[i] < other[j]) out.push(one[i++]);
    else if (i >= one.length || other[j] < one[i]) out.push(other[j++]);
    else { i++; j++; }
  }
  return Int32Array.from(out);
}

/** Return which of the first increasing list are missing in the second, as a one for each. */
export function missingIn(one, other) {
  const all = new Set(other);
  return Uint8Array.from(one, at => (all.has(at) ? 0 : 1));
}

/** Return the number of rewirings that are done after so many steps. */
export function rewiringsAt(run, step) {
  let low = 0, high = run.rewired.length;
  while (low < high) { const mid = (low + high) >> 1; if (run.rewired[mid] <= step) low = mid + 1; else high = mid; }
  return low;
}

/** Return the accuracy after so many steps, on straight lines between two measurements. NaN before the first. */
export function accuracyAt({ measured, accuracy }, step) {
  if (!measured.length || step < measured[0]) return NaN;
  let k = 0;
  while (k + 1 < measured.length && measured[k + 1] <= step) k++;
  if (k + 1 === measured.length) return accuracy[k];
  return accuracy[k] + ((accuracy[k + 1] - accuracy[k]) * (step - measured[k])) / (measured[k + 1] - measured[k]);
}

/** Return how much two topologies have in common, of all that either has (the Jaccard index). */
export function overlap(one, other) {
  const both = one.length - missingIn(one, other).reduce((sum, is) => sum + is, 0);
  return both / Math.max(1, one.length + other.length - both);
}

/** Order the units of each hidden layer so that few lines cross: every unit moves to the mean of its neighbours. */
export function orderOf(shape, { from, to }, works, sweeps = 12) {
  const height = new Float64Array(shape.first.at(-1));
  shape.units.forEach((count, layer) => { for (let k = 0; k < count; k++) height[shape.first[layer] + k] = (k + 0.5) / count; });
  const hidden = shape.units.slice(1, -1).map((count, k) => Array.from({ length: count }, (_, unit) => shape.first[k + 1] + unit));
  for (let sweep = 0; sweep < sweeps; sweep++) {
    const sum = new Float64Array(height.length), number = new Float64Array(height.length);
    for (let k = 0; k < from.length; k++) {
      if (!works[from[k]] || !works[to[k]]) continue;
      sum[from[k]] += height[to[k]]; number[from[k]]++; sum[to[k]] += height[from[k]]; number[to[k]]++;
    }
    for (const units of hidden) {
      units.sort((a, b) => (number[a] ? sum[a] / number[a] : height[a]) - (number[b] ? sum[b] / number[b] : height[b]));
      units.forEach((unit, k) => { height[unit] = (k + 0.5) / units.length; });
    }
  }
  return hidden;
}
