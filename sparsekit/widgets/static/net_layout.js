// Where everything of a living network stands on its canvas. A wide page reads from left to right, a phone from top to bottom.

const TALL_BELOW = 520; // CSS pixels of the stage

/** Return the columns' positions along the reading direction, as shares: the inputs first, the classes last. */
function alongOf(columns, tall, last) {
  const hidden = columns - 2, [low, high] = tall ? [0.46, 0.655] : hidden > 2 ? [0.4, last - 0.13] : [0.45, 0.665];
  const middle = Array.from({ length: hidden }, (_, k) => (hidden === 1 ? (low + high) / 2 : low + ((high - low) * k) / (hidden - 1)));
  return [0, ...middle, last];
}

/**
 * Return the geometry of a network on a stage of this width: sizes, the pad, the position of each unit, and radii.
 * `image` is [height, width] of an input, or null for a vector, `busy` marks units that work in the last frame.
 */
export function layoutOf({ chain, order, busy }, { image, names }, width) {
  const tall = width < TALL_BELOW, height = tall ? 592 : Math.round(clamp(0.36 * width, 350, 560));
  const nameRoom = names.every(name => name.length < 3) ? 26 : Math.min(110, 14 + 7.2 * Math.max(...names.map(name => name.length)));
  const last = tall ? 0.79 : 0.835 - (nameRoom - 26) / width;
  const geo = { tall, width, height, image, names, nameRoom, along: alongOf(chain.units.length, tall, last), radius: [] };
  geo.pad = padOf(geo);
  geo.at = new Float32Array(2 * chain.total);
  placeInputs(geo.at, chain.inputs, image, geo.pad, tall);
  for (let column = 1; column < chain.units.length; column++) placeColumn(geo, chain, order[column], busy, column);
  return geo;
}

function padOf({ tall, width, height, image }) {
  if (!image) return tall ? { x: 0, y: 96, w: width, h: 104 } : { x: 0, y: 24, w: clamp(0.2 * width, 150, 240), h: height - 132 };
  const most = tall ? Math.min(176, width * 0.48) : Math.min(clamp(0.24 * width, 170, 300), height - 126), [rows, cols] = image;
  const w = most * Math.min(1, cols / rows), h = most * Math.min(1, rows / cols);
  return tall ? { x: 0, y: 0, w, h } : { x: 0, y: Math.max(24, Math.round((height - h - 84) / 2)), w, h };
}

function placeColumn(geo, chain, order, busy, column) {
  const { tall, at, along } = geo, isLast = column === chain.units.length - 1, room = tall ? geo.width : geo.height;
  const margin = isLast ? (tall ? 16 : 34) : tall ? 6 : 26;
  const { across, aside, radius } = columnSpots(order, unit => isLast || busy[unit], room, margin, 11, isLast ? 1 : Infinity);
  geo.radius[column] = isLast ? 8 : clamp(radius, 2, 6);
  order.forEach((unit, k) => {
    const main = along[column] * (tall ? geo.height : geo.width) + aside[k];
    at[2 * unit] = tall ? across[k] : main;
    at[2 * unit + 1] = tall ? main : across[k];
  });
}

export function columnOf(chain, unit) {
  let column = 0;
  while (unit >= chain.first[column + 1]) column++;
  return column;
}

/** Return the point at share `t` of a connection's curve. */
export function pointOn({ at, tall }, from, to, t) {
  const across = 3 * t * t - 2 * t * t * t, along = 1.5 * t * (1 - t) ** 2 + 1.5 * t * t * (1 - t) + t ** 3;
  const [sx, sy] = tall ? [across, along] : [along, across];
  return [at[2 * from] + (at[2 * to] - at[2 * from]) * sx, at[2 * from + 1] + (at[2 * to + 1] - at[2 * from + 1]) * sy];
}

/** Return the middle of a class's name, relative to the end of its lines. */
export const nameOffset = geo => (geo.tall ? [0, 12] : [geo.nameRoom / 2, 0]);

/** Return what lies at a point: a unit, or else a connection, or else null. */
export function nearest(geo, chain, links, x, y) {
  const unit = nearestUnit(geo, chain, x, y);
  if (unit !== null) return { unit };
  const link = nearestLink(geo, links, x, y);
  return link ? { link } : null;
}

function nearestUnit(geo, chain, x, y) {
  const [dx, dy] = nameOffset(geo);
  let best = null, least = 13 ** 2;
  for (let unit = chain.inputs; unit < chain.total; unit++) {
    const isLast = unit >= chain.outputs, away = (x - geo.at[2 * unit] - (isLast ? dx : 0)) ** 2 + (y - geo.at[2 * unit + 1] - (isLast ? dy : 0)) ** 2;
    if (away < least) { least = away; best = unit; }
  }
  if (best !== null || geo.tall || x <= geo.width * geo.along.at(-1)) return best;
  for (let unit = chain.outputs; unit < chain.total; unit++) if (Math.abs(y - geo.at[2 * unit + 1]) < 14) best = unit;
  return best;
}

function nearestLink(geo, links, x, y) {
  const away = (link, t) => { const [px, py] = pointOn(geo, link.from, link.to, t); return (x - px) ** 2 + (y - py) ** 2; };
  let best = null, least = 40 ** 2;
  for (const link of links) {
    const low = Math.min(geo.at[2 * link.from], geo.at[2 * link.to]) - 4, high = Math.max(geo.at[2 * link.from], geo.at[2 * link.to]) + 4;
    if (x < low || x > high) continue;
    for (let k = 1; k < 16; k++) {
      if (away(link, k / 16) >= least) continue;
      const near = Math.min(...Array.from({ length: 121 }, (_, m) => away(link, m / 120)));
      if (near < least && near < 16) { least = near; best = link; }
    }
  }
  return best;
}
