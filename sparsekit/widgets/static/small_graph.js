// A whole network as a small graph: inputs at the left, columns of units, and the outputs at the right.

const DIGITS = 12; // outputs that still have room for a number each

/** Place every unit in a canvas of this size. An idle unit gets half a slot. */
export function placesOf(shape, order, works, image, width, height) {
  const units = shape.first.at(-1), at = new Float32Array(2 * units), size = new Float32Array(units), isImage = image.length > 0;
  const side = isImage ? Math.min(0.3 * width, height - 4) : 8, cell = isImage ? side / Math.max(...image) : 0;
  const box = isImage ? { x: 1, y: (height - image[0] * cell) / 2, w: image[1] * cell, h: image[0] * cell } : { x: 0, y: 0, w: 4, h: height };
  placeInputs(at, shape.units[0], isImage ? image : null, box);
  const last = shape.units.length - 1, left = side + 0.13 * width, right = width - 20, outputs = shape.units[last];
  const place = (column, x, spots, low, high) => column.forEach((unit, k) => {
    at[2 * unit] = x + spots.aside[k]; at[2 * unit + 1] = spots.across[k]; size[unit] = clamp(spots.radius, low, high);
  });
  order.forEach((column, k) => place(column, left + (k * (right - left)) / order.length, columnSpots(column, unit => works[unit], height, 0, 9), 1.4, 3.6));
  const ends = Array.from({ length: outputs }, (_, k) => shape.first[last] + k);
  place(ends, right, columnSpots(ends, () => true, height, 0, 0, 1), 3, 3);
  return { at, tall: false, size, box, cell, image, labels: outputs <= DIGITS };
}

/** Draw the connections for which `is` holds as one path. */
function strokeAll(pen, spots, { from, to }, is, { colour, width, alpha = 1, dash = [] }) {
  pen.beginPath();
  for (let k = 0; k < from.length; k++) if (is(k)) traceLine(pen, spots, from[k], to[k]);
  pen.strokeStyle = colour; pen.lineWidth = width; pen.globalAlpha = alpha; pen.setLineDash(dash);
  pen.stroke(); pen.setLineDash([]); pen.globalAlpha = 1;
}

/** Shade each pixel by the number of connections that read it. */
function drawPixels(pen, shape, spots, { from }, { hue, surface, line }) {
  const { at, box, cell } = spots, fan = new Int32Array(shape.units[0]);
  for (const unit of from) if (unit < fan.length) fan[unit]++;
  for (let unit = 0; unit < fan.length; unit++) {
    const x = at[2 * unit] - cell / 2, y = at[2 * unit + 1] - cell / 2;
    pen.globalAlpha = 1; pen.fillStyle = surface; pen.fillRect(x, y, cell, cell);
    pen.globalAlpha = 0.85 * Math.sqrt(Math.min(1, fan[unit] / 8)); pen.fillStyle = hue; pen.fillRect(x, y, cell, cell);
  }
  pen.globalAlpha = 1; pen.strokeStyle = line; pen.lineWidth = 1;
  pen.strokeRect(box.x, box.y, box.w, box.h);
}

/** Keep lines out of the image, so that its shades stay readable. They leave it at about the height of their pixel. */
function outside(pen, { box }, width, height) {
  pen.beginPath(); pen.rect(0, 0, width, height);
  pen.rect(box.x, box.y, box.w, box.h);
  pen.clip('evenodd');
}

function drawUnits(pen, shape, spots, works, colours) {
  for (let unit = shape.units[0]; unit < works.length; unit++) {
    const isOutput = unit >= shape.first.at(-2), x = spots.at[2 * unit], y = spots.at[2 * unit + 1];
    pen.beginPath();
    pen.arc(x, y, works[unit] || isOutput ? spots.size[unit] : 1.5, 0, 7);
    if (works[unit]) { pen.fillStyle = colours.ink; pen.fill(); } else { pen.strokeStyle = colours.faint; pen.lineWidth = 1; pen.stroke(); }
    if (!isOutput || !spots.labels) continue;
    pen.fillStyle = works[unit] ? colours.ink : colours.soft;
    pen.fillText(String(unit - shape.first.at(-2)), x + 12, y + 0.5);
  }
}

/**
 * Draw the network. `graph` has `shape`, `links`, `works` and `live` (see evolution.js), and `marked`, a one for each
 * connection that is drawn in ink.
 */
export function drawGraph(pen, spots, { shape, links, works, live, marked }, colours, width, height) {
  pen.clearRect(0, 0, width, height);
  pen.font = '11px Inter, -apple-system, "Segoe UI", Arial, sans-serif'; pen.textAlign = 'center'; pen.textBaseline = 'middle';
  const crowd = Math.min(1, Math.sqrt(300 / Math.max(1, live.length)));
  pen.save();
  if (spots.image.length) { drawPixels(pen, shape, spots, links, colours); outside(pen, spots, width, height); }
  strokeAll(pen, spots, links, k => !live[k] && !marked[k], { colour: colours.soft, width: 0.8, alpha: 0.5 * crowd, dash: [2, 3] });
  strokeAll(pen, spots, links, k => live[k] && !marked[k], { colour: colours.hue, width: 1.1, alpha: 0.25 + 0.5 * crowd });
  strokeAll(pen, spots, links, k => marked[k] && !live[k], { colour: colours.ink, width: 1, alpha: 0.8, dash: [3, 3] });
  strokeAll(pen, spots, links, k => marked[k] && live[k], { colour: colours.ink, width: 1.3 });
  pen.restore();
  drawUnits(pen, shape, spots, works, colours);
}

/** A method of the palette has its own colour in every theme. Others bring one. */
export const colourOf = rule => (rule.token ? `var(--sk-${rule.token})` : rule.colour);

/** Return a graph of one run after some steps, and what is counted in it. */
export function sceneOf(shape, run, step) {
  const k = rewiringsAt(run, step), at = run.frames[k], links = linksOf(shape, at), { works, live } = onPaths(shape, links);
  const marked = k && step - run.rewired[k - 1] < 0.02 * run.total ? missingIn(at, run.frames[k - 1]) : new Uint8Array(at.length);
  const grown = k ? missingIn(at, run.frames[k - 1]).reduce((a, b) => a + b, 0) : 0;
  const moved = missingIn(at, run.frames[0]).reduce((a, b) => a + b, 0) / Math.max(1, at.length);
  return { shape, links, works, live, marked, grown: marked.some(Boolean) ? grown : 0, moved, idle: idleUnits(shape, works), count: at.length };
}

/** Fix the spots of a run's units by its last topology, so that nothing moves in its film but the connections. */
export function settle(shape, run, image, width, height) {
  const links = linksOf(shape, run.frames.at(-1)), { works } = onPaths(shape, links);
  return placesOf(shape, orderOf(shape, links, works), works, image, width, height);
}

/** Size a canvas to its cell, and return its pen and size. */
export function penFor(canvas, ratio) {
  const width = Math.max(150, canvas.parentElement.clientWidth), height = Math.round(clamp(ratio * width, 180, 280));
  return { pen: sharpen(canvas, width, height), width, height };
}

export const inkOf = (el, hue) => ({ hue, ...Object.fromEntries(['ink', 'soft', 'faint', 'surface', 'line'].map(name => [name, token(el, name)])) });
