// In a chart that is a slider, the reader drags along the horizontal axis, and the height shows what comes of it.

const CHART_EDGE = { left: 46, right: 116, top: 22, bottom: 34 };

/** Return the place of a number between two ends as 0 to 1, on a logarithmic scale if asked. */
export function share(value, [low, high], isLog = false) {
  const at = isLog ? Math.log : x => x;
  return (at(value) - at(low)) / (at(high) - at(low) || 1);
}

/** Return the index of the stop that lies nearest to a share of the axis. */
export function nearestStop(stops, ends, at, isLog = false) {
  const gaps = stops.map(stop => Math.abs(share(stop, ends, isLog) - at));
  return gaps.indexOf(Math.min(...gaps));
}

/** Move labels apart that would lie on each other, from top to bottom, and return their heights in the given order. */
export function spread(heights, gap, lowest) {
  const order = heights.map((_, index) => index).sort((a, b) => heights[a] - heights[b]), out = [...heights];
  order.forEach((index, k) => { if (k) out[index] = Math.max(out[index], out[order[k - 1]] + gap); });
  let limit = lowest;
  for (const index of [...order].reverse()) { out[index] = Math.min(out[index], limit); limit = out[index] - gap; }
  return out;
}

const pathOf = points => points.map(([x, y], index) => `${index ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');

/**
 * Make the chart. `draw(spec)` shows `stops` (their values), `at` (index of the handle), `x` and `y` (ends, ticks as
 * [value, text], name), `lines` (name, points, chosen, dots), `value` (height at the handle or null), `label` and `said`.
 */
export function chartDial(name, height, move) {
  const frame = svg('svg', { class: 'sk-dial', role: 'slider', tabindex: 0, 'aria-label': name, 'data-lm-suppress-shortcuts': 'true', height });
  let spec = null;
  function toX(value) { return CHART_EDGE.left + (frame.clientWidth - CHART_EDGE.left - CHART_EDGE.right) * share(value, spec.x.ends, spec.x.log); }
  function toY(value) { return height - CHART_EDGE.bottom - (height - CHART_EDGE.top - CHART_EDGE.bottom) * share(value, spec.y.ends); }

  function axes() {
    const right = frame.clientWidth - CHART_EDGE.right, bottom = height - CHART_EDGE.bottom;
    const across = spec.y.ticks.flatMap(([value, text]) => [
      svg('line', { class: 'sk-grid', x1: CHART_EDGE.left, x2: right, y1: toY(value), y2: toY(value) }),
      svg('text', { x: CHART_EDGE.left - 8, y: toY(value) + 4, 'text-anchor': 'end' }, text)]);
    let free = -Infinity;
    const along = spec.x.ticks.flatMap(([value, text]) => {
      const at = toX(value), isRoom = at - free > 8 + 6.5 * text.length;
      if (isRoom) free = at;
      return [svg('line', { class: 'sk-axis', x1: at, x2: at, y1: bottom, y2: bottom + 5 }),
        ...(isRoom ? [svg('text', { x: at, y: bottom + 18, 'text-anchor': 'middle' }, text)] : [])];
    });
    return [...across, ...along, svg('line', { class: 'sk-axis', x1: CHART_EDGE.left, x2: right, y1: bottom, y2: bottom }),
      svg('text', { x: right + 28, y: bottom + 18 }, spec.x.name), svg('text', { x: CHART_EDGE.left - 38, y: 11 }, spec.y.name)];
  }
  function lines() {
    const shown = spec.lines.filter(line => line.points.length);
    const ends = shown.map(line => line.points.at(-1)).map(([x, y]) => [toX(x), toY(y)]);
    const heights = spread(ends.map(([, y]) => y), 15, height - CHART_EDGE.bottom - 8);
    return shown.flatMap((line, index) => {
      const points = line.points.map(([x, y]) => [toX(x), toY(y)]), kind = line.chosen ? 'sk-chosen' : 'sk-other';
      return [svg('path', { class: `sk-line ${kind}`, d: pathOf(points), 'stroke-dasharray': line.dash }),
        ...(line.dots ? points.map(([x, y]) => svg('circle', { class: `sk-dot ${kind}`, cx: x, cy: y, r: line.chosen ? 3 : 2 })) : []),
        svg('text', { class: kind, x: Math.min(ends[index][0] + 10, frame.clientWidth - CHART_EDGE.right + 8), y: heights[index] + 4 }, points.length > 1 ? line.name : '')];
    });
  }
  function handle() {
    const x = toX(spec.stops[spec.at]), bottom = height - CHART_EDGE.bottom, waits = spec.value === null;
    const y = waits ? toY(spec.guess ?? spec.y.ends[0]) : toY(spec.value);
    const turn = x > frame.clientWidth * 0.6 ? 'end' : 'start';
    return [svg('line', { class: 'sk-plumb', x1: x, x2: x, y1: y, y2: bottom }),
      svg('circle', { class: waits ? 'sk-handle sk-waits' : 'sk-handle', cx: x, cy: y, r: 7 }),
      svg('text', { class: 'sk-handle-text', x: x + (turn === 'end' ? -12 : 12), y: Math.max(16, y - 10), 'text-anchor': turn }, spec.label)];
  }
  function paint() {
    if (!spec || !frame.clientWidth) return;
    frame.replaceChildren(...axes(), ...lines(), ...handle());
    frame.setAttribute('aria-valuemin', 0);
    frame.setAttribute('aria-valuemax', spec.stops.length - 1);
    frame.setAttribute('aria-valuenow', spec.at);
    frame.setAttribute('aria-valuetext', spec.said);
    countDrawing(frame);
  }
  drag(frame, x => {
    if (!spec) return;
    const at = (x - CHART_EDGE.left) / (frame.clientWidth - CHART_EDGE.left - CHART_EDGE.right);
    move(nearestStop(spec.stops, spec.x.ends, at, spec.x.log));
  });
  keys(frame, { min: () => 0, max: () => spec.stops.length - 1, get: () => spec.at, set: move });
  const watcher = new ResizeObserver(paint);
  watcher.observe(frame);
  return { element: frame, draw: next => { spec = next; paint(); }, stop: () => watcher.disconnect() };
}
