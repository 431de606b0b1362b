// A small network as a list of connections: reading its frames, running it, and finding its paths. Nothing here draws.
// Units are numbered through all columns, the inputs first. Connections are in the order of their layers.

const HEADER_BYTES = 28;

/** Return where the layers begin among the positions, how many units each column has, and where each column begins. */
export function chainOf(shapes) {
  const starts = [0], units = [shapes[0][1]], first = [0];
  for (const [outputs, inputs] of shapes) {
    starts.push(starts.at(-1) + outputs * inputs);
    units.push(outputs);
  }
  for (const count of units) first.push(first.at(-1) + count);
  return { shapes, starts, units, first, size: starts.at(-1), inputs: units[0], outputs: first.at(-2), total: first.at(-1) };
}

/** Return float32 bytes as numbers. The bytes may begin anywhere, so we copy them. */
export const singles = (bytes, count, from) => new Float32Array(bytes.slice(from, from + 4 * count).buffer);

/** Return the frames that Python's `Frame.encode` wrote, one after the other. */
export function readFrames(bytes) {
  const frames = [], view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length;) {
    const [size, step, rewiring, count, biases, width] = [0, 1, 2, 3, 4, 5].map(k => view.getUint32(at + 4 * k, true));
    const read = width === 2 ? halves : singles, tail = at + size - width * (count + biases);
    const frame = { step, rewiring, count, accuracy: view.getFloat32(at + 24, true), at: positions(bytes, count, at + HEADER_BYTES) };
    frames.push({ ...frame, weights: read(bytes, count, tail), biases: read(bytes, biases, tail + width * count) });
    at += size;
  }
  return frames;
}

/** Return the connections of a frame: both ends, layer, weight, rank by magnitude, and whether the frame before lacks it. */
export function linksOf(chain, frame, before = null) {
  const rank = new Int32Array(frame.count), size = frame.weights.map(Math.abs);
  Int32Array.from(size.keys()).sort((a, b) => size[b] - size[a] || a - b).forEach((k, number) => { rank[k] = number; });
  const existed = before && before.rewiring !== frame.rewiring ? new Set(before.at) : null;
  let layer = 0;
  return Array.from(frame.at, (at, k) => {
    while (at >= chain.starts[layer + 1]) layer++;
    const inside = at - chain.starts[layer], inputs = chain.shapes[layer][1];
    const from = chain.first[layer] + (inside % inputs), to = chain.first[layer + 1] + Math.floor(inside / inputs);
    return { at, from, to, layer, weight: frame.weights[k], rank: rank[k], born: existed !== null && !existed.has(at) };
  });
}

/** Return the activations of all units on `count` examples at once, a row per unit. The last rows are the logits. */
export function forward(chain, links, biases, inputs, count, cutUnits = null, act = new Float32Array(chain.total * count)) {
  act.set(inputs);
  for (let unit = chain.inputs; unit < chain.total; unit++) act.fill(biases[unit - chain.inputs], unit * count, (unit + 1) * count);
  const rows = Array.from({ length: chain.total }, (_, unit) => act.subarray(unit * count, (unit + 1) * count));
  let k = 0;
  for (let layer = 0; layer < chain.shapes.length; layer++) {
    if (layer) for (let unit = chain.first[layer]; unit < chain.first[layer + 1]; unit++) activate(rows[unit], cutUnits?.has(unit));
    while (k < links.length && links[k].layer === layer) k = addUpToFour(rows, links, k, count);
  }
  return act;
}

/** Add what up to four connections bring to one unit, in one pass over the examples. Returns the next connection. */
function addUpToFour(rows, links, k, count) {
  const unit = links[k].to, sums = rows[unit]; // rows without an offset are read more than twice as fast
  let last = k + 1;
  while (last < k + 4 && last < links.length && links[last].to === unit) last++;
  if (last < k + 4) {
    for (; k < last; k++) {
      const { weight } = links[k], row = rows[links[k].from];
      for (let n = 0; n < count; n++) sums[n] += weight * row[n];
    }
    return last;
  }
  const one = links[k], two = links[k + 1], three = links[k + 2], four = links[k + 3];
  const a = rows[one.from], b = rows[two.from], c = rows[three.from], d = rows[four.from];
  const p = one.weight, q = two.weight, r = three.weight, s = four.weight;
  for (let n = 0; n < count; n++) sums[n] += p * a[n] + q * b[n] + r * c[n] + s * d[n];
  return last;
}

function activate(row, isCut) {
  if (isCut) row.fill(0);
  else for (let n = 0; n < row.length; n++) if (row[n] < 0) row[n] = 0;
}

let room = new Float32Array(0); // for the activations of a whole test, which nobody keeps

/** Return the class that each example is read as. */
export function predictions(chain, links, biases, examples, cutUnits = null) {
  const { inputs, count } = examples, out = new Int32Array(count);
  if (room.length !== chain.total * count) room = new Float32Array(chain.total * count);
  const act = forward(chain, links, biases, inputs, count, cutUnits, room);
  for (let n = 0; n < count; n++) {
    let best = chain.outputs;
    for (let unit = best + 1; unit < chain.total; unit++) if (act[unit * count + n] > act[best * count + n]) best = unit;
    out[n] = best - chain.outputs;
  }
  return out;
}

/** Return the share of the examples that the network gets right. */
export function accuracyOf(chain, links, biases, examples, cutUnits = null) {
  const read = predictions(chain, links, biases, examples, cutUnits);
  let right = 0;
  for (let n = 0; n < examples.count; n++) right += read[n] === examples.labels[n];
  return right / examples.count;
}

export function softmax(logits) {
  const top = Math.max(...logits), powers = Array.from(logits, value => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map(power => power / sum);
}

/** Return 1 for each unit on a path from an input to a class. */
export function onPaths(chain, links) {
  const arrives = new Uint8Array(chain.total).fill(1, 0, chain.inputs), leads = new Uint8Array(chain.total).fill(1, chain.outputs);
  for (const link of links) if (arrives[link.from]) arrives[link.to] = 1;
  for (let k = links.length; k--;) if (leads[links[k].to]) leads[links[k].from] = 1;
  return arrives.map((reached, unit) => reached & leads[unit]);
}

/** Return the connections and units of every path through a unit, `{ unit }`, or through a connection, `{ link }`. */
export function pathsThrough(links, { unit, link }) {
  const up = new Set([link ? link.from : unit]), down = new Set([link ? link.to : unit]), lines = new Set(link ? [link] : []);
  for (let k = links.length; k--;) if (up.has(links[k].to)) { up.add(links[k].from); lines.add(links[k]); }
  for (const one of links) if (down.has(one.from)) { down.add(one.to); lines.add(one); }
  return { lines, units: new Set([...up, ...down]) };
}

/** Return what a unit looks for: the products of the weights along its paths, summed for each input. It ignores ReLUs. */
export function receptiveField(chain, links, unit) {
  const sums = new Float64Array(chain.total);
  sums[unit] = 1;
  for (let k = links.length; k--;) if (sums[links[k].to]) sums[links[k].from] += sums[links[k].to] * links[k].weight;
  return Float32Array.from(sums.subarray(0, chain.inputs));
}

/** Return the order in which test examples pass by: the clearest of each class in turn, and one misread per round. */
export function parade(chain, links, biases, examples) {
  const { count, labels } = examples, act = forward(chain, links, biases, examples.inputs, count);
  const classes = chain.total - chain.outputs, right = Array.from({ length: classes }, () => []), wrong = [];
  for (let n = 0; n < count; n++) {
    const shares = softmax(Array.from({ length: classes }, (_, k) => act[(chain.outputs + k) * count + n]));
    const best = shares.indexOf(Math.max(...shares));
    (best === labels[n] ? right[best] : wrong).push([shares[best], n]);
  }
  for (const list of [...right, wrong]) list.sort((a, b) => b[0] - a[0]);
  const rounds = Array.from({ length: 12 }, (_, round) => [...right.keys()].map(k => right[(k * 7 + 3) % classes] ?? right[k]).concat([wrong])
    .filter(list => list[round]).map(list => list[round][1]));
  return [...new Set(rounds.flat())];
}
