// A film of one layer holds its first mask and the positions that change at each rewiring. We walk it in both directions.

/** Read a list of positions per rewiring. Gaps have seven bits a byte, and the eighth bit says that more follow. */
export function readGaps(bytes, deltaSizes) {
  let from = 0;
  return deltaSizes.map(size => {
    const positions = new Uint32Array(size);
    let position = -1;
    for (let k = 0; k < size; k++) {
      let gap = 0, weight = 1, byte;
      do { byte = bytes[from++]; gap += (byte & 127) * weight; weight *= 128; } while (byte > 127);
      position += gap + 1;
      positions[k] = position;
    }
    return positions;
  });
}

/** Unpack rows into one byte per position, 1 where a connection exists. */
export function unpackRows(bytes, rows, cols) {
  const mask = new Uint8Array(rows * cols), stride = Math.ceil(cols / 8);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) mask[row * cols + col] = (bytes[row * stride + (col >> 3)] >> (7 - (col & 7))) & 1;
  }
  return mask;
}

/** Hold the mask after any number of rewirings. Applying a delta twice undoes it, so going back is the same walk. */
export function makeWalker(base, gaps, deltaSizes, rows, cols) {
  const mask = unpackRows(base, rows, cols), deltas = readGaps(gaps, deltaSizes);
  let at = 0;
  const apply = positions => { for (const position of positions) mask[position] ^= 1; };
  return {
    mask,
    deltas,
    goTo(frame) {
      while (at < frame) apply(deltas[at++]);
      while (at > frame) apply(deltas[--at]);
      return mask;
    },
  };
}

/** Colour every position as empty, kept, born or dropped by the rewiring that led here. `shows` switches kinds off. */
export function paintFrame(pixels, walker, frame, ink, shows) {
  const mask = walker.goTo(frame);
  const kept = shows.kept ? ink.kept : ink.paper;
  for (let position = 0; position < mask.length; position++) pixels[position] = mask[position] ? kept : ink.paper;
  if (frame === 0) return;
  const born = shows.born ? ink.born : ink.paper, dropped = shows.dropped ? ink.dropped : ink.paper;
  for (const position of walker.deltas[frame - 1]) pixels[position] = mask[position] ? born : dropped;
}
