// A small live chart has fixed axes, a smooth line over a pale raw one, ticks at rewirings and flags where a dial moved.

const EDGE = { left: 46, right: 92, top: 26, bottom: 36 }; // at the right more where names are long
const ENOUGH_TO_SMOOTH = 30;

/** Cut the points of all lines out of one message, first x and then y, each as 32-bit floats. */
export function linesOf(data, series) {
  const copy = data.slice(), floats = new Float32Array(copy.buffer); // because a copy starts at a multiple of four
  let from = 0;
  return series.map(line => {
    const xs = floats.subarray(from, from + line.count), ys = floats.subarray(from + line.count, from + 2 * line.count);
    from += 2 * line.count;
    return { ...line, xs, ys };
  });
}

/** Return the lowest and the highest finite number. A flat line gets room around it. */
export function rangeOf(arrays) {
  let low = Infinity, high = -Infinity;
  for (const values of arrays) {
    for (const value of values) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/** Return the ends of an axis that begins at 0, unless numbers lie below, and that never shrinks from its old ends. */
export function growingEnds(arrays, old) {
  const finite = [0, ...arrays.flatMap(values => [...values].filter(Number.isFinite))];
  const low = Math.min(...finite), high = Math.max(...finite), power = 10 ** Math.floor(Math.log10(high || 1));
  const round = [1, 1.5, 2, 3, 5, 8, 10].find(k => k * power >= high * 0.999) * power;
  return [Math.min(low, old?.[0] ?? 0), Math.max(high && round, old?.[1] ?? 0) || 1];
}

/** Return a line's exponential moving average, without the pull of its start. Gaps stay gaps. */
export function smoothed(values) {
  const keep = 1 - 1 / Math.max(1, values.length / 40);
  let sum = 0, weight = 0;
  return Float32Array.from(values, value => {
    if (!Number.isFinite(value)) return value;
    sum = keep * sum + (1 - keep) * value; weight = keep * weight + (1 - keep);
    return sum / weight;
  });
}

/** Return where the axes end, so that names beside them fit, or have half of the width if they are very long. */
function rightEnd(pen, width, names) {
  const longest = Math.max(...names.map(name => pen.measureText(name).width));
  return width - Math.min(width / 2, Math.max(EDGE.right, longest + 16));
}

function drawAxes(pen, size, ends, to, names, colours) {
  const right = size.right, bottom = size.height - EDGE.bottom;
  const isShare = ends.y[0] === 0 && ends.y[1] === 1;
  pen.lineWidth = 1; pen.fillStyle = colours.soft; pen.textBaseline = 'middle'; pen.textAlign = 'right';
  for (const tick of isShare ? [0, 0.5, 1] : ticks(...ends.y, 4)) {
    pen.strokeStyle = colours.line; pen.beginPath(); pen.moveTo(EDGE.left, to.y(tick)); pen.lineTo(right, to.y(tick)); pen.stroke();
    pen.fillText(isShare ? `${100 * tick} %` : String(tick), EDGE.left - 6, to.y(tick));
  }
  pen.strokeStyle = colours.soft; pen.beginPath(); pen.moveTo(EDGE.left, bottom); pen.lineTo(right, bottom); pen.stroke();
  pen.textBaseline = 'top'; pen.textAlign = 'center';
  for (const tick of ticks(...ends.x, size.width / 95)) pen.fillText(tick.toLocaleString('en'), to.x(tick), bottom + 8);
  pen.textAlign = 'left'; pen.fillText(names.x, right + 12, bottom + 8);
  pen.font = pen.font.replace('12px', '600 13px'); pen.fillStyle = colours.ink; pen.fillText(names.y, 0, 2);
  pen.font = pen.font.replace('600 13px', '12px');
}

function drawLine(pen, xs, ys, to) {
  pen.beginPath();
  let penIsDown = false;
  xs.forEach((x, index) => {
    const y = ys[index];
    if (!Number.isFinite(y)) { penIsDown = false; return; } // the line has a gap where a value is missing
    if (penIsDown) pen.lineTo(to.x(x), to.y(y)); else pen.moveTo(to.x(x), to.y(y));
    penIsDown = true;
  });
  pen.stroke();
}

/** Draw rewirings as ticks on the axis, and moved dials as flags with a name. */
function drawEvents(pen, size, marks, flags, to, colours) {
  const bottom = size.height - EDGE.bottom, step = Math.max(1, Math.ceil(marks.length / 200));
  pen.strokeStyle = colours.ink; pen.lineWidth = 1; pen.beginPath();
  marks.forEach((x, index) => { if (index % step === 0) { pen.moveTo(to.x(x), bottom); pen.lineTo(to.x(x), bottom + 6); } });
  pen.stroke();
  pen.textBaseline = 'top'; pen.setLineDash([2, 3]);
  flags.forEach(({ x, text }, index) => {
    const isRight = to.x(x) > size.width * 0.6, y = EDGE.top + 2 + 14 * (index % 3);
    pen.strokeStyle = colours.soft; pen.beginPath(); pen.moveTo(to.x(x), EDGE.top); pen.lineTo(to.x(x), bottom); pen.stroke();
    pen.textAlign = isRight ? 'right' : 'left'; pen.fillStyle = colours.ink; pen.fillText(text, to.x(x) + (isRight ? -4 : 4), y);
  });
  pen.setLineDash([]);
}

function drawLines(pen, size, lines, looks, to, colourOf) {
  pen.save(); pen.beginPath(); pen.rect(EDGE.left - 2, EDGE.top - 3, size.right - EDGE.left + 5, size.height - EDGE.top - EDGE.bottom + 5); pen.clip();
  pen.lineJoin = pen.lineCap = 'round';
  const drawn = lines.map((line, index) => {
    const look = looks[index % looks.length], isNoisy = line.xs.length > ENOUGH_TO_SMOOTH && !line.past;
    pen.strokeStyle = colourOf(line.past ? 'faint' : look.colour); pen.setLineDash(line.past ? [2, 4] : look.dash);
    pen.globalAlpha = isNoisy ? 0.25 : 1; pen.lineWidth = isNoisy ? 1 : line.past ? 1.4 : 2.2;
    const ys = line.xs.length > ENOUGH_TO_SMOOTH ? smoothed(line.ys) : line.ys;
    drawLine(pen, line.xs, isNoisy ? line.ys : ys, to);
    pen.globalAlpha = 1; pen.lineWidth = 2.2;
    if (isNoisy) drawLine(pen, line.xs, ys, to);
    return { name: line.name, x: line.xs.at(-1), y: ys.at(-1), past: line.past, colour: pen.strokeStyle };
  });
  pen.restore(); return drawn.filter(({ y, past }) => Number.isFinite(y) && !past);
}

/** Write each line's name where it ends, with its colour as a dot, because the text itself is ink. */
function drawNames(pen, size, ends, to, colours) {
  const heights = spread(ends.map(({ y }) => clamp(to.y(y), EDGE.top, size.height - EDGE.bottom)), 14, size.height - EDGE.bottom - 6);
  pen.textAlign = 'left'; pen.textBaseline = 'middle';
  ends.forEach(({ name, x, y, colour }, index) => {
    pen.fillStyle = colour; pen.beginPath(); pen.arc(to.x(x), to.y(y), 3, 0, 7); pen.fill();
    pen.fillStyle = colours.ink; pen.fillText(name, Math.min(to.x(x) + 8, size.right + 8), heights[index]);
  });
}

function drawChart(canvas, model, memory) {
  const size = { width: model.get('width'), height: model.get('height'), right: 0 };
  const pen = sharpen(canvas, size.width, size.height), style = getComputedStyle(canvas);
  const colourOf = name => (name.startsWith('#') ? name : token(canvas, name));
  const colours = Object.fromEntries(['ink', 'soft', 'line', 'faint'].map(name => [name, colourOf(name)]));
  pen.font = `12px ${style.fontFamily}`;
  const lines = linesOf(bytesOf(model.get('points')), model.get('series'));
  const given = { x: model.get('x_ends'), y: model.get('y_ends') };
  const ends = { x: given.x.length ? given.x : rangeOf(lines.map(({ xs }) => xs)), y: given.y.length ? given.y : growingEnds(lines.map(({ ys }) => ys), memory.y) };
  memory.y = lines.length ? ends.y : memory.y;
  size.right = rightEnd(pen, size.width, [model.get('x_label'), ...lines.filter(({ past }) => !past).map(({ name }) => name)]);
  const to = {
    x: x => EDGE.left + (size.right - EDGE.left) * (x - ends.x[0]) / (ends.x[1] - ends.x[0]),
    y: y => size.height - EDGE.bottom - (size.height - EDGE.top - EDGE.bottom) * (y - ends.y[0]) / (ends.y[1] - ends.y[0]),
  };
  drawAxes(pen, size, ends, to, { x: model.get('x_label'), y: model.get('y_label') }, colours);
  drawEvents(pen, size, model.get('marks'), model.get('flags'), to, colours);
  drawNames(pen, size, drawLines(pen, size, lines, model.get('looks'), to, colourOf), to, colours);
  canvas.dataset.points = lines.find(({ past }) => !past)?.xs.length ?? 0;
}

function render({ model, el }) {
  const canvas = make('canvas', { class: 'sk-curve', role: 'img' }), memory = {};
  mount(el, canvas);
  function draw() {
    const needed = model.get('series').reduce((sum, { count }) => sum + 8 * count, 0);
    if (bytesOf(model.get('points')).length !== needed) return; // this is half of a message, so we wait for the rest
    drawChart(canvas, model, memory);
    canvas.setAttribute('aria-label', model.get('alt'));
    countDrawing(canvas);
  }
  const scheduleDraw = oncePerFrame(draw), stopWatching = onTheme(scheduleDraw);
  for (const name of ['points', 'series', 'alt', 'width', 'height', 'x_label', 'y_label', 'marks', 'flags', 'x_ends', 'y_ends']) model.on(`change:${name}`, scheduleDraw);
  scheduleDraw(); // not at once, because the canvas must be on the page before it knows the theme's colours
  return stopWatching;
}
export default { render };
