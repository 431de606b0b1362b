// A small live chart has lines that differ by colour and dashes, axes with names, and a legend.

const EDGE = { left: 52, right: 12, top: 26, bottom: 36 };

/** Cut the points of all lines out of one message, first x and then y, each as 32-bit floats. */
export function linesOf(data, series) {
  const copy = data.slice(), floats = new Float32Array(copy.buffer); // because a copy starts at a multiple of four
  let from = 0;
  return series.map(({ name, count }) => {
    const xs = floats.subarray(from, from + count), ys = floats.subarray(from + count, from + 2 * count);
    from += 2 * count;
    return { name, xs, ys };
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

function drawAxes(c, size, xs, ys, toX, toY, names) {
  const [left, right, top, bottom] = [EDGE.left, size.width - EDGE.right, EDGE.top, size.height - EDGE.bottom];
  c.lineWidth = 1; c.textBaseline = 'middle'; c.textAlign = 'right';
  for (const tick of ticks(...ys, 5)) {
    c.globalAlpha = 0.18; c.beginPath(); c.moveTo(left, toY(tick)); c.lineTo(right, toY(tick)); c.stroke();
    c.globalAlpha = 0.85; c.fillText(String(tick), left - 6, toY(tick));
  }
  c.textBaseline = 'top'; c.textAlign = 'center';
  for (const tick of ticks(...xs, size.width / 75)) c.fillText(tick.toLocaleString('en'), toX(tick), bottom + 5);
  c.fillText(names.x, (left + right) / 2, bottom + 20);
  c.save(); c.translate(11, (top + bottom) / 2); c.rotate(-Math.PI / 2); c.textBaseline = 'middle'; c.fillText(names.y, 0, 0); c.restore();
  c.globalAlpha = 0.6; c.beginPath(); c.moveTo(left, top); c.lineTo(left, bottom); c.lineTo(right, bottom); c.stroke(); c.globalAlpha = 1;
}

function drawLine(c, line, toX, toY) {
  c.beginPath();
  let penIsDown = false;
  line.xs.forEach((x, index) => {
    const y = line.ys[index];
    if (!Number.isFinite(y)) { penIsDown = false; return; } // the line has a gap where a value is missing
    if (penIsDown) c.lineTo(toX(x), toY(y)); else c.moveTo(toX(x), toY(y));
    penIsDown = true;
  });
  c.stroke();
}

function drawLegend(c, lines, style, ink) {
  let x = EDGE.left;
  c.textAlign = 'left'; c.textBaseline = 'middle';
  lines.forEach((line, index) => {
    style(index); c.beginPath(); c.moveTo(x, 12); c.lineTo(x + 26, 12); c.stroke();
    c.fillStyle = ink; c.fillText(line.name, x + 32, 12);
    x += 48 + c.measureText(line.name).width;
  });
  c.setLineDash([]);
}

function drawChart(canvas, model) {
  const size = { width: model.get('width'), height: model.get('height') };
  const c = lineCanvas(canvas, size.width, size.height), ink = c.fillStyle;
  const lines = linesOf(bytesOf(model.get('points')), model.get('series'));
  const xs = rangeOf(lines.map(line => line.xs)), ys = rangeOf(lines.map(line => line.ys));
  const toX = x => EDGE.left + (size.width - EDGE.left - EDGE.right) * (x - xs[0]) / (xs[1] - xs[0]);
  const toY = y => size.height - EDGE.bottom - (size.height - EDGE.top - EDGE.bottom) * (y - ys[0]) / (ys[1] - ys[0]);
  drawAxes(c, size, xs, ys, toX, toY, { x: model.get('x_label'), y: model.get('y_label') });
  const style = index => {
    const line = model.get('looks')[index % model.get('looks').length];
    c.strokeStyle = line.colour; c.lineWidth = 2; c.setLineDash(line.dash);
  };
  lines.forEach((line, index) => { style(index); drawLine(c, line, toX, toY); });
  drawLegend(c, lines, style, ink);
  canvas.dataset.points = lines[0]?.xs.length ?? 0;
}

function render({ model, el }) {
  const canvas = make('canvas', { class: 'sk-curve', role: 'img' });
  mount(el, canvas);
  function draw() {
    const needed = model.get('series').reduce((sum, { count }) => sum + 8 * count, 0);
    if (bytesOf(model.get('points')).length !== needed) return; // this is half of a message, so we wait for the rest
    drawChart(canvas, model);
    canvas.setAttribute('aria-label', model.get('alt'));
    countDrawing(canvas);
  }
  const scheduleDraw = oncePerFrame(draw), stopWatching = onTheme(scheduleDraw);
  for (const name of ['points', 'series', 'alt', 'width', 'height', 'x_label', 'y_label']) model.on(`change:${name}`, scheduleDraw);
  scheduleDraw(); // not at once, because the canvas must be on the page before it knows the theme's colours
  return stopWatching;
}
export default { render };
