// What Python sends of a living network, opened: networks with their frames, test examples, and words.

/** Prepare a network that Python sent for drawing. */
export function openNetwork({ name, shapes, film, order }) {
  const chain = chainOf(shapes), net = { name, chain, order, frames: readFrames(bytesOf(film)), trail: new Map() };
  net.busy = onPaths(chain, linksAt(net, net.frames.length - 1).links);
  return net;
}

/** Return the connections of a frame, those that the rewiring before it dropped, and the weights in the frame before. */
export function linksAt({ chain, frames }, k) {
  const frame = frames[k], before = frames[k - 1];
  if (frame.links) return frame;
  frame.links = linksOf(chain, frame, before);
  frame.gone = before && before.rewiring !== frame.rewiring ? missingLinks(chain, before, frame) : [];
  frame.previous = before && frame.count <= FEW ? new Map(Array.from(before.at, (at, n) => [at, before.weights[n]])) : null; // more do not glide
  return frame;
}

function missingLinks(chain, before, frame) {
  const now = new Set(frame.at);
  return linksOf(chain, before).filter(link => !now.has(link.at));
}

/** Return the test examples with a row per input, so that a connection is one pass over a row. */
export function openExamples(model) {
  const { num_inputs: rows, count, width } = model.get('facts'), bytes = bytesOf(model.get('inputs'));
  const raw = width === 2 ? halves(bytes, rows * count) : singles(bytes, rows * count, 0), inputs = new Float32Array(rows * count);
  for (let n = 0; n < count; n++) for (let k = 0; k < rows; k++) inputs[k * count + n] = raw[n * rows + k];
  const labels = bytesOf(model.get('labels'));
  return { inputs, count, labels: new Uint16Array(labels.slice().buffer) };
}

/** Return the words for inputs, examples and classes. */
export function wordsOf(model) {
  const words = model.get('facts').words;
  return { ...words, classTitle: k => (words.class_word ? `${words.class_word} ${words.names[k]}` : words.names[k]) };
}
