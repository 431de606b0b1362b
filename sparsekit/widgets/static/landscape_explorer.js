// The loss between networks as a map or as a landscape that turns, with one clipped scale, and the cut through it.

const BANDS = 10, DARKEST = 0.5, STRIP = 3;

/** Return the value at a point of the plane, interpolated within its cell, and that of the border beyond. */
export function valueAt({ x, y }, values, at, up) {
  const cell = (axis, place) => {
    const share = axis.length > 1 ? ((place - axis[0]) / (axis.at(-1) - axis[0])) * (axis.length - 1) : 0;
    const low = clamp(Math.floor(share), 0, Math.max(0, axis.length - 2));
    return [low, clamp(share - low, 0, 1), Math.min(low + 1, axis.length - 1)];
  };
  const [c, across, right] = cell(x, at), [r, rise, above] = cell(y, up), n = x.length;
  const blend = (a, b, t) => (t === 0 ? a : t === 1 ? b : a * (1 - t) + b * t); // so that infinity times nothing is nothing
  return blend(blend(values[r * n + c], values[r * n + right], across), blend(values[above * n + c], values[above * n + right], across), rise);
}

/** Return how bad a value is on a scale, 0 (best) to 1 (worst, or beyond the scale). */
export function badness(value, [low, high], isLoss) {
  const share = (value - low) / (high - low);
  return Number.isFinite(value) ? clamp(isLoss ? share : 1 - share, 0, 1) : 1;
}

/** Look at a point from a direction: how far right and how far up one sees it, and how far away it is. */
export function seen([x, y, z], turn, tilt) {
  const a = (turn * Math.PI) / 180, b = (tilt * Math.PI) / 180, behind = -(Math.cos(a) * x + Math.sin(a) * y);
  return [Math.cos(a) * y - Math.sin(a) * x, z * Math.cos(b) + behind * Math.sin(b), behind * Math.cos(b) - z * Math.sin(b)];
}

export const nearestRow = (axis, place) => axis.reduce((best, value, k) => (Math.abs(value - place) < Math.abs(axis[best] - place) ? k : best), 0);

function shadesOf(element) {
  const ground = token(element, 'surface'), ink = token(element, 'ink');
  return bad => mixed(ground, ink, DARKEST * (1 - bad));
}

/** Whether a plane is so much longer than wide that equal scales would leave a thin strip. */
export function isStrip({ x, y }) {
  const [wide, high] = [x.at(-1) - x[0] || 1, y.at(-1) - y[0] || 1];
  return Math.max(wide / high, high / wide) > STRIP;
}

/** Return functions from the plane to a box, with equal scales, because distances on the plane are those of weights. */
function fitting(panel, width, height, margin) {
  const { x, y } = panel, wide = x.at(-1) - x[0] || 1, high = y.at(-1) - y[0] || 1;
  const room = [width - margin.left - margin.right, height - margin.top - margin.bottom];
  const equal = Math.min(room[0] / wide, room[1] / high), [across, up] = isStrip(panel) ? [room[0] / wide, room[1] / high] : [equal, equal];
  const left = margin.left + (room[0] - wide * across) / 2, bottom = height - margin.bottom - (room[1] - high * up) / 2;
  return { X: at => left + (at - x[0]) * across, Y: place => bottom - (place - y[0]) * up, left, bottom, right: left + wide * across, top: bottom - high * up,
    back: (px, py) => [x[0] + (px - left) / across, y[0] + (bottom - py) / up] };
}

function label(pen, text, x, y, element, align = 'left') {
  pen.textAlign = align; pen.lineWidth = 4; pen.lineJoin = 'round'; pen.strokeStyle = token(element, 'paper'); pen.fillStyle = token(element, 'ink');
  pen.strokeText(text, x, y); pen.fillText(text, x, y);
}

function drawPoint(pen, x, y, off, element) {
  pen.beginPath(); pen.arc(x, y, 6, 0, 7);
  pen.fillStyle = token(element, off ? 'paper' : 'ink'); pen.strokeStyle = token(element, off ? 'ink' : 'paper'); pen.lineWidth = 2;
  pen.fill(); pen.stroke();
}

const nameOf = ({ name, off, share }) => (off ? `${name} (${percent(share, 0)} off)` : name);

/** Paint bands of equal height as an image, and hatch what lies beyond the scale. */
function paintBands(pen, panel, values, range, isLoss, box, ratio, element) {
  const shade = shadesOf(element), colours = Array.from({ length: BANDS }, (_, k) => rgba(shade((k + 0.5) / BANDS)));
  const W = Math.round((box.right - box.left) * ratio), H = Math.round((box.bottom - box.top) * ratio), image = pen.createImageData(Math.max(1, W), Math.max(1, H));
  const pixels = new Uint32Array(image.data.buffer), beyond = rgba(token(element, 'surface')), hatch = rgba(token(element, 'faint'));
  for (let py = 0; py < H; py++) {
    for (let px = 0; px < W; px++) {
      const value = valueAt(panel, values, ...box.back(box.left + (px + 0.5) / ratio, box.top + (py + 0.5) / ratio));
      const bad = badness(value, range, isLoss), over = isLoss && !(value <= range[1]);
      pixels[py * W + px] = over ? ((px + py) % Math.round(9 * ratio) < ratio ? hatch : beyond) : colours[Math.min(BANDS - 1, Math.floor(bad * BANDS))];
    }
  }
  return image;
}

let painted = { key: '' }; // the last bands, because a cut that moves does not change them

function drawMap(canvas, panel, values, range, isLoss, cut, element, width, height) {
  const pen = sharpen(canvas, width, height), box = fitting(panel, width, height, { left: 46, right: 10, top: 8, bottom: 38 }), ratio = canvas.width / width;
  const key = [width, height, ratio, isLoss, token(element, 'ink')].join();
  if (painted.key !== key || painted.values !== values) painted = { key, values, image: paintBands(pen, panel, values, range, isLoss, box, ratio, element) };
  pen.putImageData(painted.image, Math.round(box.left * ratio), Math.round(box.top * ratio));
  pen.font = `12px ${getComputedStyle(element).fontFamily}`;
  pen.fillStyle = token(element, 'soft'); pen.textAlign = 'center';
  for (const tick of ticks(panel.x[0], panel.x.at(-1), 5)) pen.fillText(String(tick), box.X(tick), box.bottom + 16);
  pen.fillText('distance along the first direction', (box.left + box.right) / 2, box.bottom + 32);
  pen.textAlign = 'right'; pen.textBaseline = 'middle';
  for (const tick of ticks(panel.y[0], panel.y.at(-1), 5)) pen.fillText(String(tick), box.left - 7, box.Y(tick));
  pen.textBaseline = 'alphabetic';
  const line = (points, colour, wide) => { pen.strokeStyle = colour; pen.lineWidth = wide; pen.lineJoin = 'round'; pen.beginPath(); points.forEach(([x, y]) => pen.lineTo(box.X(x), box.Y(y))); pen.stroke(); };
  for (const { name, points } of panel.tracks) {
    line(points, token(element, 'paper'), 5); line(points, token(element, 'ink'), 2);
    const [x, y] = points[Math.floor(0.3 * points.length)];
    label(pen, name, clamp(box.X(x) + 8, box.left, box.right - 60), box.Y(y) - 8, element);
  }
  pen.setLineDash([6, 4]); line([[panel.x[0], cut], [panel.x.at(-1), cut]], token(element, 'ink'), 1.4); pen.setLineDash([]);
  drawPoint(pen, box.right, box.Y(cut), false, element);
  for (const point of panel.points) {
    const x = box.X(point.x), y = box.Y(point.y), isRight = x > (box.left + box.right) / 2 + 30;
    drawPoint(pen, x, y, point.off, element);
    label(pen, nameOf(point), x + (isRight ? -11 : 11), y - 9, element, isRight ? 'right' : 'left');
  }
  return box;
}

/** Draw the landscape from afar to near. Its walls end where the scale ends. */
function drawLandscape(canvas, panel, values, range, isLoss, cut, element, width, height, turn, tilt) {
  const pen = sharpen(canvas, width, height), { x, y } = panel, n = x.length, shade = shadesOf(element), ink = token(element, 'ink');
  const sides = [x.at(-1) - x[0] || 1, y.at(-1) - y[0] || 1], reach = isStrip(panel) ? sides : [Math.max(...sides), Math.max(...sides)], middle = [(x[0] + x.at(-1)) / 2, (y[0] + y.at(-1)) / 2];
  const heightOf = value => (Number.isFinite(value) ? clamp((value - range[0]) / (range[1] - range[0]), 0, 1) : isLoss ? 1 : 0) * 0.5 - 0.22;
  const zoom = Math.min(width / 1.5, height / 1.28), place = (at, up, value) => {
    const [right, top, away] = seen([(at - middle[0]) / reach[0], (up - middle[1]) / reach[1], heightOf(value)], turn, tilt);
    return [width / 2 + right * zoom, height / 2 - top * zoom, away];
  };
  const nodes = Array.from(values, (value, k) => place(x[k % n], y[Math.floor(k / n)], value)), quads = [];
  for (let r = 0; r + 1 < y.length; r++) {
    for (let c = 0; c + 1 < n; c++) {
      const k = r * n + c, corners = [k, k + 1, k + n + 1, k + n], mean = corners.reduce((sum, at) => sum + badness(values[at], range, isLoss), 0) / 4;
      const beyond = isLoss && corners.every(at => !(values[at] <= range[1]));
      quads.push({ corners, mean, beyond, away: corners.reduce((sum, at) => sum + nodes[at][2], 0) });
    }
  }
  quads.sort((a, b) => b.away - a.away);
  const edge = mixed(token(element, 'paper'), ink, 0.28);
  for (const { corners, mean, beyond } of quads) {
    pen.beginPath(); corners.forEach(at => pen.lineTo(nodes[at][0], nodes[at][1])); pen.closePath();
    pen.fillStyle = beyond ? token(element, 'surface') : shade(mean); pen.strokeStyle = beyond ? token(element, 'line') : edge; pen.lineWidth = 0.6;
    pen.fill(); pen.stroke();
  }
  pen.font = `12px ${getComputedStyle(element).fontFamily}`;
  const line = (points, colour, wide) => { pen.strokeStyle = colour; pen.lineWidth = wide; pen.lineJoin = 'round'; pen.beginPath(); points.forEach(([px, py]) => pen.lineTo(px, py)); pen.stroke(); };
  for (const { points } of panel.tracks) {
    const path = points.map(([at, up]) => place(at, up, valueAt(panel, values, at, up)));
    line(path, token(element, 'paper'), 5); line(path, ink, 2.2);
  }
  pen.setLineDash([6, 4]); line(x.map(at => place(at, cut, valueAt(panel, values, at, cut))), ink, 1.5); pen.setLineDash([]);
  for (const point of panel.points) {
    const [px, py] = place(point.x, point.y, valueAt(panel, values, point.x, point.y));
    drawPoint(pen, px, py, point.off, element); label(pen, nameOf(point), px + 10, py - 9, element);
  }
}

/** Draw the values along the cut on the scale that all panels share. */
function drawCut(canvas, panel, values, range, isLoss, row, element, width, height) {
  const pen = sharpen(canvas, width, height), { x, y } = panel, left = 48, right = width - 12, top = 16, bottom = height - 38, n = x.length;
  const X = at => left + ((at - x[0]) / (x.at(-1) - x[0] || 1)) * (right - left), room = 0.06 * (range[1] - range[0]);
  const Y = value => bottom - ((Math.min(Number.isFinite(value) ? value : range[1] + room, range[1] + room) - range[0] + room) / (range[1] - range[0] + 2 * room)) * (bottom - top);
  pen.font = `12px ${getComputedStyle(element).fontFamily}`;
  for (const tick of ticks(range[0], range[1], 4)) {
    pen.strokeStyle = token(element, 'line'); pen.lineWidth = 1; pen.beginPath(); pen.moveTo(left, Y(tick)); pen.lineTo(right, Y(tick)); pen.stroke();
    pen.fillStyle = token(element, 'soft'); pen.textAlign = 'right'; pen.textBaseline = 'middle'; pen.fillText(isLoss ? String(tick) : percent(tick, 0), left - 7, Y(tick));
  }
  pen.textBaseline = 'alphabetic'; pen.textAlign = 'center';
  for (const tick of ticks(x[0], x.at(-1), 5)) pen.fillText(String(tick), X(tick), bottom + 16);
  pen.fillText('distance along the first direction', (left + right) / 2, bottom + 32);
  const along = x.map((_, k) => values[row * n + k]);
  pen.save(); pen.beginPath(); pen.rect(left, top, right - left, bottom - top); pen.clip();
  pen.strokeStyle = token(element, 'ink'); pen.lineWidth = 2.4; pen.lineJoin = 'round'; pen.beginPath(); along.forEach((value, k) => pen.lineTo(X(x[k]), Y(value))); pen.stroke(); pen.restore();
  const half = y.length > 1 ? (0.51 * (y.at(-1) - y[0])) / (y.length - 1) : Infinity;
  for (const point of panel.points.filter(one => Math.abs(one.y - y[row]) <= half)) {
    const px = X(point.x), py = Y(valueAt(panel, values, point.x, y[row])), isRight = px > (left + right) / 2;
    drawPoint(pen, px, py, point.off, element); label(pen, point.name, px + (isRight ? -10 : 10), py - 10, element, isRight ? 'right' : 'left');
  }
  if (isLoss && along.some(value => !(value <= range[1]))) {
    pen.fillStyle = token(element, 'soft'); pen.textAlign = 'right'; pen.fillText(`the scale ends at ${range[1].toPrecision(3)}`, right, top - 4);
  }
}

function buildLandscape(model, panels, choose) {
  const title = make('h3', { class: 'sk-title', 'aria-live': 'polite' }), map = make('canvas', { tabindex: 0, class: 'sk-tk-scrub' }), cutline = make('canvas', { role: 'img' });
  const slider = make('input', { type: 'range', class: 'sk-tk-slider' }), value = make('output', { class: 'sk-num' });
  const groups = [radioGroup('View', ['Map', 'Landscape'], k => choose('view', ['contours', 'landscape'][k])), radioGroup('Measure', ['Loss', 'Accuracy'], k => choose('of', ['loss', 'accuracy'][k]))];
  if (panels.length > 1) groups.unshift(radioGroup('Surface', panels.map(one => one.name[0].toUpperCase() + one.name.slice(1)), k => choose('panel', k)));
  const cutTitle = make('p', { class: 'sk-figtitle' }), note = make('p', { class: 'sk-soft sk-tk-note' });
  const left = make('div', { class: 'sk-tk-column' }, map), right = make('div', { class: 'sk-tk-column' }, cutTitle, cutline,
    make('div', { class: 'sk-tk-cut' }, ...labelled('Cut at', slider), value));
  const stage = make('div', { class: 'sk-stage sk-tickets' }, make('div', { class: 'sk-tk-head' }, title, copyButtonOf(model)), make('div', { class: 'sk-tk-jumps' }, ...groups.map(([group]) => group)),
    make('div', { class: 'sk-tk-two sk-tk-even' }, left, right), note);
  return { title, map, cutline, slider, value, groups: groups.map(([, set]) => set), cutTitle, note, left, right, stage };
}

function render({ model, el }) {
  const panels = model.get('panels').map(one => ({ ...one, heights: Object.fromEntries(['loss', 'accuracy'].map(of => [of, new Float32Array(bytesOf(one[of]).slice().buffer)])) }));
  const bounds = { loss: model.get('loss_range'), accuracy: rangeOfAccuracy(panels) };
  let box = null, grip = null;
  const choose = (name, value) => {
    model.set(name, value);
    const { y } = panels[model.get('panel')], cut = model.get('cut');
    if (name === 'panel' && (cut < y[0] || cut > y.at(-1))) model.set('cut', y[nearestRow(y, 0)]);
    model.save_changes(); schedule();
  };
  const view = buildLandscape(model, panels, choose);
  mount(el, view.stage);
  const now = () => {
    const panel = panels[model.get('panel')], of = model.get('of'), row = nearestRow(panel.y, model.get('cut'));
    return { panel, of, isLoss: of === 'loss', values: panel.heights[of], range: bounds[of], row, isFlat: model.get('view') === 'contours' };
  };
  const cutTo = place => { model.set('cut', now().panel.y[nearestRow(now().panel.y, place)]); schedule(); };

  function draw() {
    if (!view.left.clientWidth) return;
    const { panel, of, isLoss, values, range, row, isFlat } = now(), width = view.left.clientWidth, height = clamp(0.74 * width, 260, 430), cut = panel.y[row];
    view.title.textContent = panel.titles[of];
    if (isFlat) box = drawMap(view.map, panel, values, range, isLoss, cut, el, width, height);
    else drawLandscape(view.map, panel, values, range, isLoss, cut, el, width, height, model.get('turn'), model.get('tilt'));
    drawCut(view.cutline, panel, values, range, isLoss, row, el, view.right.clientWidth, Math.min(330, height - 60));
    const along = panel.x.map((_, k) => values[row * panel.x.length + k]), write = number => (isLoss ? number.toPrecision(3) : percent(number));
    view.cutTitle.textContent = `Along the cut the ${of} lies between ${write(Math.min(...along))} and ${write(Math.max(...along))}`;
    Object.assign(view.slider, { min: panel.y[0], max: panel.y.at(-1), step: 'any', value: cut });
    view.value.textContent = cut.toFixed(2); view.slider.setAttribute('aria-valuetext', `${cut.toFixed(2)}. ${view.cutTitle.textContent}`);
    const off = panel.points.filter(one => one.off).map(one => `${one.name} with ${percent(one.share, 0)} of its distance`);
    view.note.textContent = `${isFlat ? 'Drag on the map to move the cut.' : 'Drag to turn the landscape.'} Darker (in the dark theme brighter) is better. `
      + (isLoss ? `All panels have one scale, which ends at ${range[1].toPrecision(3)}. ${isFlat ? 'Hatched' : 'Flat on top'} is what lies above. ` : 'All panels have one scale. ')
      + `Distances are those of weights, and the plane shows two directions of thousands. ${isStrip(panel) ? 'The two directions have different scales here. ' : ''}` + (off.length ? `A hollow point lies off the plane: ${off.join(', ')}. We draw its shadow.` : '');
    const words = `${panel.titles[of]}. ${view.cutTitle.textContent}`;
    for (const [name, text] of [['role', 'slider'], ['aria-label', isFlat ? 'Cut through the map' : 'Direction of view'], ['aria-valuetext', words],
      ['aria-valuemin', isFlat ? panel.y[0] : -180], ['aria-valuemax', isFlat ? panel.y.at(-1) : 180], ['aria-valuenow', isFlat ? cut : model.get('turn')]]) view.map.setAttribute(name, text);
    view.cutline.setAttribute('aria-label', view.cutTitle.textContent);
    const picks = [['contours', 'landscape'].indexOf(model.get('view')), ['loss', 'accuracy'].indexOf(of)];
    if (panels.length > 1) picks.unshift(model.get('panel'));
    view.groups.forEach((set, k) => set(picks[k]));
    countDrawing(view.map);
  }
  const schedule = oncePerFrame(draw);
  const turnTo = degrees => { model.set('turn', ((degrees + 540) % 360) - 180); schedule(); };
  drag(view.map, (x, y, event) => {
    if (now().isFlat) return cutTo(box.back(x, y)[1]);
    if (event.type === 'pointerdown' || !grip) grip = { x, y, turn: model.get('turn'), tilt: model.get('tilt') };
    model.set('tilt', clamp(grip.tilt + (y - grip.y) * 0.4, 8, 80));
    turnTo(grip.turn - (x - grip.x) * 0.5);
  }, () => { grip = null; model.save_changes(); });
  view.slider.addEventListener('input', () => cutTo(Number(view.slider.value)));
  view.slider.addEventListener('change', () => model.save_changes());
  const rowKeys = { min: () => 0, max: () => now().panel.y.length - 1, get: () => now().row, set: row => { cutTo(now().panel.y[row]); model.save_changes(); } };
  keys(view.slider, rowKeys);
  view.map.addEventListener('keydown', event => {
    const by = { ArrowLeft: -10, ArrowRight: 10, ArrowUp: 0, ArrowDown: 0 }[event.key];
    if (by === undefined || now().isFlat) return;
    event.preventDefault(); event.stopImmediatePropagation();
    if (!by) model.set('tilt', clamp(model.get('tilt') + (event.key === 'ArrowUp' ? 6 : -6), 8, 80));
    turnTo(model.get('turn') + by); model.save_changes();
  });
  keys(view.map, rowKeys);
  const names = ['panel', 'view', 'of', 'cut', 'turn', 'tilt'].map(name => `change:${name}`);
  names.forEach(name => model.on(name, schedule));
  const stops = [onTheme(schedule), onWidth(view.stage, schedule), () => names.forEach(name => model.off(name, schedule))];
  schedule();
  return () => stops.forEach(stop => stop());
}

function rangeOfAccuracy(panels) {
  let low = Infinity, high = -Infinity;
  for (const { heights } of panels) for (const value of heights.accuracy) { low = Math.min(low, value); high = Math.max(high, value); }
  return high > low ? [low, high] : [low, low + 1];
}
export default { render };
