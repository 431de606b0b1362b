// A film of one layer: the first mask and the places that flip at each rewiring. Walks in both directions.

/** One list of positions per rewiring: gaps of seven bits a byte, the eighth bit says that more follow. */
export function readGaps(bytes, flips) {
  let from = 0;
  return flips.map(count => {
    const positions = new Uint32Array(count);
    let position = -1;
    for (let k = 0; k < count; k++) {
      let gap = 0, weight = 1, byte;
      do { byte = bytes[from++]; gap += (byte & 127) * weight; weight *= 128; } while (byte > 127);
      position += gap + 1;
      positions[k] = position;
    }
    return positions;
  });
}

/** One byte per place, 1 where a connection exists, from packed rows. */
export function unpackRows(bytes, rows, cols) {
  const state = new Uint8Array(rows * cols), stride = Math.ceil(cols / 8);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) state[row * cols + col] = (bytes[row * stride + (col >> 3)] >> (7 - (col & 7))) & 1;
  }
  return state;
}

/** The state after any number of rewirings; a flip undoes itself, so going back is the same walk. */
export function makeWalker(base, gaps, flips, rows, cols) {
  const state = unpackRows(base, rows, cols), changes = readGaps(gaps, flips);
  let at = 0;
  const flip = positions => { for (const position of positions) state[position] ^= 1; };
  return {
    state,
    changes,
    goTo(frame) {
      while (at < frame) flip(changes[at++]);
      while (at > frame) flip(changes[--at]);
      return state;
    },
  };
}

/** Colour every place: nothing, kept, born or dropped by the rewiring that led here; `shows` switches kinds off. */
export function paintFrame(pixels, walker, frame, ink, shows) {
  const state = walker.goTo(frame);
  const kept = shows.kept ? ink.kept : ink.paper;
  for (let place = 0; place < state.length; place++) pixels[place] = state[place] ? kept : ink.paper;
  if (frame === 0) return;
  const born = shows.born ? ink.born : ink.paper, dropped = shows.dropped ? ink.dropped : ink.paper;
  for (const place of walker.changes[frame - 1]) pixels[place] = state[place] ? born : dropped;
}
