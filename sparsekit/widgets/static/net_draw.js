// Draw a living network on three canvases: steady lines, what a rewiring changed, and everything that follows the reader.
// A scene holds what is shown now: { chain, geo, colours, links, frame, act, onPath, ... }. Drawing changes nothing in it.

export const FLASH_MS = 620; // that a rewiring glows
export const FRAME_MS = 240; // between two frames of a film
export const FEW = 900; // lines, up to which every drawing draws every line
const WAVE_MS = 330; // that a new example needs for each column
const WAVE_LINES = 240; // that it draws at most, because more are hardly seen

/** Return the largest magnitude in each layer: widths compare within a layer. */
export function largestOf(links, layers, size = link => Math.abs(link.weight)) {
  const largest = new Float64Array(layers).fill(1e-9);
  for (const link of links) largest[link.layer] = Math.max(largest[link.layer], size(link));
  return largest;
}

/** Return how much weak lines recede: 1 for a few hundred lines, less in a crowd. */
export function crowdOf(count, all) {
  const base = clamp(Math.sqrt(300 / all), 0.22, 1);
  return count > FEW ? base : base + (1 - base) * clamp((FEW - count) / 600, 0, 1);
}

/** Set width and opacity of a line by its share of the largest magnitude in its layer. */
function look(pen, share, crowd, many) {
  pen.globalAlpha = 0.16 * crowd + (1 - 0.16 * crowd) * share ** (crowd ** -0.7);
  pen.lineWidth = (0.5 + 3.6 * share) * (many ? 0.62 : 1);
}

const signal = scene => link => Math.abs(link.weight * scene.act[link.from]);

/** Draw all lines but those that a rewiring has just grown. The strongest are on top, those on no path are dashed. */
export function drawLines(pen, scene, isGlowing) {
  if (scene.links.length > FEW) return drawCrowd(pen, scene, isGlowing);
  const { geo, colours, links, onPath, chain, frame, mix } = scene, uses = scene.mode === 'signal';
  const size = uses ? signal(scene) : link => Math.abs(link.weight), largest = largestOf(uses ? links : scene.allLinks, chain.shapes.length, size);
  const crowd = crowdOf(links.length, frame.count), idle = [];
  pen.clearRect(0, 0, geo.width, geo.height);
  pen.lineCap = 'round';
  for (const link of links.slice().sort((a, b) => b.rank - a.rank)) {
    const old = mix < 1 ? scene.previous?.get(link.at) : undefined;
    const weight = old === undefined ? link.weight : old + (link.weight - old) * mix, share = Math.min(1, size(link) / largest[link.layer]);
    if (share < 0.004 || (link.born && isGlowing)) continue;
    if (!onPath[link.from] || !onPath[link.to]) { idle.push(link); continue; }
    pen.strokeStyle = weight > 0 ? colours.plus : colours.minus;
    look(pen, share, crowd, false);
    if (uses) pen.globalAlpha = share ** 0.8;
    stroke(pen, geo, link);
  }
  drawIdle(pen, scene, idle, crowd);
}

function drawIdle(pen, { geo, colours }, idle, crowd) {
  pen.setLineDash([2, 4]);
  pen.lineWidth = 1;
  pen.strokeStyle = colours.soft;
  pen.globalAlpha = 0.42 * crowd;
  strokeTogether(pen, geo, idle);
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

function strokeTogether(pen, geo, links) {
  pen.beginPath();
  for (const link of links) traceLine(pen, geo, link.from, link.to);
  pen.stroke();
}

function stroke(pen, geo, link) {
  pen.beginPath();
  traceLine(pen, geo, link.from, link.to);
  pen.stroke();
}

/** Draw a rewiring at an age from 0 to 1: dashes that vanish were dropped, ink runs along what was grown. */
export function drawFlash(pen, scene, age) {
  const { geo, colours, links, gone } = scene, many = links.length > FEW, isStill = prefersStill(), t = isStill ? 1 : ease(clamp(age * 1.8, 0, 1));
  pen.clearRect(0, 0, geo.width, geo.height);
  if (age >= 1 && !isStill) return;
  const spent = isStill ? 0.25 : age;
  pen.setLineDash([3, 4]);
  pen.lineWidth = 1;
  pen.strokeStyle = colours.soft;
  pen.globalAlpha = (1 - spent) * 0.8;
  for (const link of gone) stroke(pen, geo, link);
  pen.setLineDash([]);
  pen.strokeStyle = pen.fillStyle = colours.ink;
  pen.lineWidth = many ? 0.9 : 1.5;
  pen.globalAlpha = Math.min(1, 2.2 * (1 - spent));
  for (const link of links) {
    if (!link.born) continue;
    strokePart(pen, geo, link, 0, t, 16);
    if (t < 1 && !many) dot(pen, ...pointOn(geo, link.from, link.to, t), 2.4);
  }
  pen.globalAlpha = 1;
}

function strokePart(pen, geo, { from, to }, start, end, parts) {
  pen.beginPath();
  for (let k = 0; k <= parts; k++) pen[k ? 'lineTo' : 'moveTo'](...pointOn(geo, from, to, start + ((end - start) * k) / parts));
  pen.stroke();
}

function dot(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
}

/** Draw every line of the paths that the reader points at, over the dimmed others. */
export function drawPaths(pen, { geo, colours, chain, links }, paths) {
  const largest = largestOf(links, chain.shapes.length);
  pen.lineCap = 'round';
  for (const link of paths.lines) {
    const share = Math.abs(link.weight) / largest[link.layer];
    pen.strokeStyle = link.weight > 0 ? colours.plus : colours.minus;
    pen.globalAlpha = 0.35 + 0.65 * share;
    pen.lineWidth = 0.8 + 3.4 * share;
    stroke(pen, geo, link);
  }
  pen.globalAlpha = 1;
}

/** Return the strongest contributions of an example, found once for each. */
function wave(scene) {
  const { chain, links, act } = scene;
  if (scene.waveOf !== act) {
    const size = signal(scene), largest = largestOf(links, chain.shapes.length, size);
    const shares = links.map(link => ({ link, share: size(link) / largest[link.layer] })).filter(one => one.share >= 0.12);
    Object.assign(scene, { waveOf: act, waveLines: shares.sort((a, b) => b.share - a.share).slice(0, WAVE_LINES) });
  }
  return scene.waveLines;
}

/** Draw the strongest contributions of a new example as a wave through the columns. Returns whether it still runs. */
export function drawWave(pen, scene, elapsed) {
  const { geo, colours, chain } = scene, t = elapsed / WAVE_MS;
  if (t < 0 || t > chain.shapes.length + 0.4 || prefersStill()) return false;
  const { pad } = geo;
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, geo.width, geo.height);
  pen.roundRect(pad.x, pad.y, pad.w, pad.h, 10);
  pen.clip('evenodd');
  pen.lineCap = 'round';
  for (const { link, share } of wave(scene)) {
    const own = t - link.layer, head = Math.min(1, own), tail = clamp(own - 0.35, 0, 1);
    if (own < 0 || tail >= 1) continue;
    pen.strokeStyle = link.weight > 0 ? colours.plus : colours.minus;
    pen.globalAlpha = share ** 0.5;
    pen.lineWidth = 1.4 + 3 * share;
    strokePart(pen, geo, link, tail, head, 6);
  }
  pen.restore();
  return true;
}

/** Draw the units of all hidden columns, filled by how active they are, hollow and small where no path crosses them. */
export function drawUnits(pen, scene, paths) {
  const { chain, act } = scene;
  for (let column = 1; column < chain.units.length - 1; column++) {
    const [start, end] = [chain.first[column], chain.first[column + 1]];
    let peak = 1e-6;
    for (let unit = start; unit < end; unit++) peak = Math.max(peak, act[unit]);
    for (let unit = start; unit < end; unit++) drawUnit(pen, scene, unit, column, act[unit] / peak, paths && !paths.units.has(unit));
  }
}

function drawUnit(pen, { geo, colours, busy, onPath, cutUnits, hover, focus }, unit, column, level, isDimmed) {
  const x = geo.at[2 * unit], y = geo.at[2 * unit + 1], r = geo.radius[column] * (busy[unit] ? 1 : 0.6);
  const isCut = cutUnits.has(unit), isIdle = !onPath[unit] && !isCut;
  pen.globalAlpha = isDimmed ? 0.25 : 1;
  pen.lineWidth = r > 3 ? 1.2 : 0.8;
  pen.strokeStyle = isIdle || isCut ? colours.faint : colours.soft;
  pen.fillStyle = colours.paper;
  if (isIdle && r > 3) pen.setLineDash([1.5, 1.8]);
  dot(pen, x, y, isIdle ? Math.min(r * 0.8, 2.6) : r);
  pen.stroke();
  pen.setLineDash([]);
  if (isCut) cross(pen, colours.ink, x, y, r);
  else if (!isIdle && level > 0) {
    pen.globalAlpha *= 0.12 + 0.88 * Math.sqrt(level);
    pen.fillStyle = colours.ink;
    dot(pen, x, y, r);
  }
  pen.globalAlpha = 1;
  if (hover?.unit === unit || focus === unit) ring(pen, colours.ink, x, y, r + 4);
}

function cross(pen, colour, x, y, r) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.6;
  pen.beginPath();
  pen.moveTo(x - r, y - r); pen.lineTo(x + r, y + r);
  pen.moveTo(x + r, y - r); pen.lineTo(x - r, y + r);
  pen.stroke();
}

function ring(pen, colour, x, y, r) {
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.arc(x, y, r, 0, 7);
  pen.stroke();
}

/** Draw the classes with their probabilities. */
export function drawClasses(pen, scene, paths) {
  const { geo, colours, chain, shares, hover } = scene, best = scene.probability.indexOf(Math.max(...scene.probability)), [dx, dy] = nameOffset(geo);
  const barX = geo.nameRoom + 4;
  for (let k = 0; k < shares.length; k++) {
    const unit = chain.outputs + k, x = geo.at[2 * unit], y = geo.at[2 * unit + 1], opacity = paths && !paths.units.has(unit) ? 0.3 : 1, isBest = k === best;
    const bar = share => {
      pen.beginPath();
      if (geo.tall) pen.roundRect(x - 8, y + 28, 16, 84 * share, 3);
      else pen.roundRect(x + barX, y - 7, (geo.width - x - barX - 44) * share, 14, 3);
      pen.fill();
    };
    pen.fillStyle = colours.line;
    pen.globalAlpha = opacity * 0.7;
    bar(1);
    pen.globalAlpha = opacity;
    pen.fillStyle = isBest ? colours.ink : colours.soft;
    if (shares[k] > 0.003) bar(shares[k]);
    const isShort = geo.nameRoom === 26, px = isShort ? (isBest ? 19 : 15) : isBest ? 14 : 13;
    pen.font = `${isBest ? 700 : 500} ${geo.tall && !isShort ? 10 : px}px ${colours.font}`;
    pen.textBaseline = 'middle';
    pen.textAlign = isShort || geo.tall ? 'center' : 'left';
    pen.fillText(geo.names[k], isShort || geo.tall ? x + dx : x + 8, y + dy + 1);
    pen.font = `12px ${colours.font}`;
    pen.textAlign = 'right';
    if (!geo.tall && shares[k] > 0.005) pen.fillText(`${(100 * shares[k]).toFixed(0)} %`, geo.width - 2, y + 1);
    pen.globalAlpha = 1;
    if (hover?.unit === unit) ring(pen, colours.ink, x + dx, y + dy, Math.min(14, dx + 4 || 14));
  }
}
