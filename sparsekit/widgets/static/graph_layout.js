// Where the units of a network stand, in the living network and in the small graphs. Positions are pairs (x, y) in one array.

const PER_LINE = 64; // units above which a column gets a second line of units beside the first

/**
 * Return where the units of a column stand across the reading direction, how far beside its middle, and a radius that fits.
 * A unit for which `isFull` holds gets a full slot, any other half of one. Lines of units are `apart` pixels apart.
 */
export function columnSpots(order, isFull, room, margin, apart, mostLines = Infinity) {
  const lines = Math.max(1, Math.min(mostLines, Math.ceil(order.length / PER_LINE)));
  const slots = order.map(unit => (isFull(unit) ? 1 : 0.5)), gap = (room - 2 * margin) / slots.reduce((a, b) => a + b, 0);
  let before = 0;
  const across = slots.map(slot => { before += slot; return margin + (before - slot / 2) * gap; });
  return { across, aside: order.map((_, k) => ((k % lines) - (lines - 1) / 2) * apart), radius: gap * lines * 0.36 };
}

/** Write where the inputs stand into `at`: the pixels of an image in their box, or else along the edge where lines leave. */
export function placeInputs(at, count, image, { x, y, w, h }, tall = false) {
  for (let unit = 0; unit < count; unit++) {
    const share = (unit + 0.5) / count, cols = image?.[1];
    const [right, down] = image ? [((unit % cols) + 0.5) / cols, (Math.floor(unit / cols) + 0.5) / image[0]] : tall ? [share, 1] : [1, share];
    at[2 * unit] = x + right * w;
    at[2 * unit + 1] = y + down * h;
  }
}

/** Draw the curve of a connection, which leaves and arrives along the reading direction. */
export function traceLine(pen, { at, tall }, from, to) {
  const x0 = at[2 * from], y0 = at[2 * from + 1], x1 = at[2 * to], y1 = at[2 * to + 1];
  pen.moveTo(x0, y0);
  if (tall) pen.bezierCurveTo(x0, (y0 + y1) / 2, x1, (y0 + y1) / 2, x1, y1);
  else pen.bezierCurveTo((x0 + x1) / 2, y0, (x0 + x1) / 2, y1, x1, y1);
}
