// A chart that is its own slider: the reader drags along the horizontal axis, and the height shows what comes of it.

const WIDE_EDGE = { left: 46, right: 116, top: 22, bottom: 34 }; // with room for names of axes and lines

/** Return the place of a number between two ends as 0 to 1, on a logarithmic scale if asked. */
export function shareOf(value, [low, high], isLog = false) {
  const at = isLog ? Math.log : x => x;
  return (at(value) - at(low)) / (at(high) - at(low) || 1);
}

/** Return the number that lies at a share between two ends. */
export function unshare(part, [low, high], isLog = false) {
  const within = clamp(part, 0, 1);
  return isLog ? low * (high / low) ** within : low + (high - low) * within;
}

/** Return the index of the stop that lies nearest to a share of the axis. */
export function nearestStop(stops, ends, at, isLog = false) {
  const gaps = stops.map(stop => Math.abs(shareOf(stop, ends, isLog) - at));
  return gaps.indexOf(Math.min(...gaps));
}

const pathOf = points => points.map(([x, y], index) => `${index ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');

/**
 * Make a chart of role slider. `move(part)` hears at which share of the axis the reader drags, and `keySettings` are
 * those of `keys`. `draw(plan)` takes
 * - `x`, `y`: ends, log, ticks as [value, text, anchor], and a name.
 * - `lines`: points, kind (chosen, other, ahead, played or trail), and perhaps a name at the end, dots and a dash.
 * - `strokes` on the axis, `marks` as { x, y, text }, a `hint` beside the handle, or a `note` in place of everything.
 * - `handle`: x, y (null while its height is not known, with a `guess`), and text.
 * - `value`: min, max, now and text, for those who cannot see it.
 */
export function chart(name, { height, edge = WIDE_EDGE, move, keySettings }) {
  const element = svg('svg', { class: 'sk-chart', role: 'slider', tabindex: 0, 'aria-label': name, 'data-lm-suppress-shortcuts': 'true', height });
  let plan = null, width = 0; // as observed, because asking the page for it would have the page laid out at once
  function paint() {
    if (!plan || !width) return;
    const at = { width, height, edge, bottom: height - edge.bottom, right: width - edge.right,
      x: value => edge.left + (width - edge.left - edge.right) * shareOf(value, plan.x.ends, plan.x.log),
      y: value => height - edge.bottom - (height - edge.top - edge.bottom) * shareOf(value, plan.y.ends) };
    element.replaceChildren(...acrossOf(plan, at), ...(plan.note ? [svg('text', { x: width / 2, y: height / 2 - 6, 'text-anchor': 'middle' }, plan.note)]
      : [...axisOf(plan, at), ...linesOf(plan, at), ...marksOf(plan.marks ?? [], at), ...hintOf(plan, at), ...handleOf(plan.handle, plan.y.ends[0], at)]));
    element.setAttribute('aria-disabled', String(Boolean(plan.note)));
    for (const [key, value] of Object.entries(plan.value)) element.setAttribute(`aria-value${key}`, value);
    countDrawing(element);
  }
  drag(element, x => { if (plan && !plan.note) move((x - edge.left) / (element.clientWidth - edge.left - edge.right)); });
  keys(element, keySettings);
  const watcher = new ResizeObserver(([entry]) => { width = entry.contentRect.width; paint(); });
  watcher.observe(element);
  return { element, draw: next => { plan = next; paint(); }, stop: () => watcher.disconnect() };
}

/** Make a chart whose handle stands on one of several stops. `move(index)` hears of it. See `draw` in the explorers. */
export function stopsChart(name, height, move) {
  let spec = null;
  const made = chart(name, { height, move: part => move(nearestStop(spec.stops, spec.x.ends, part, spec.x.log)),
    keySettings: { min: () => 0, max: () => spec.stops.length - 1, get: () => spec.at, set: move } });
  const draw = next => {
    spec = next;
    const { x, y, lines, stops, at, value, guess, label, said } = next;
    made.draw({ x, y, lines: lines.map(line => ({ ...line, kind: line.chosen ? 'chosen' : 'other' })),
      handle: { x: stops[at], y: value, guess, text: label }, value: { min: 0, max: stops.length - 1, now: at, text: said } });
  };
  return { ...made, draw };
}

function acrossOf({ y }, at) {
  const lines = y.ticks.flatMap(([value, text]) => [
    svg('line', { class: 'sk-chart-grid', x1: at.edge.left, x2: at.right, y1: at.y(value), y2: at.y(value) }),
    svg('text', { x: at.edge.left - 7, y: at.y(value) + 4, 'text-anchor': 'end' }, text)]);
  return y.name ? [...lines, svg('text', { x: at.edge.left - 38, y: 11 }, y.name)] : lines;
}

/** Draw the horizontal axis. A text that would lie on the one before is left out. */
function axisOf({ x, strokes }, at) {
  let free = -Infinity;
  const down = (value, height) => svg('line', { class: 'sk-chart-axis', x1: at.x(value), x2: at.x(value), y1: at.bottom, y2: at.bottom + height });
  const texts = x.ticks.flatMap(([value, text, anchor]) => {
    const isRoom = at.x(value) - free > 8 + 6.5 * text.length;
    if (isRoom) free = at.x(value);
    return [...(x.name ? [down(value, 5)] : []), ...(isRoom ? [svg('text', { x: at.x(value), y: at.bottom + 18, 'text-anchor': anchor ?? 'middle' }, text)] : [])];
  });
  const named = x.name ? [svg('line', { class: 'sk-chart-axis', x1: at.edge.left, x2: at.right, y1: at.bottom, y2: at.bottom }),
    svg('text', { x: at.right + 28, y: at.bottom + 18 }, x.name)] : [];
  return [...texts, ...named, ...(strokes ?? []).map(value => down(value, -6))];
}

function linesOf(plan, at) {
  const shown = plan.lines.filter(line => line.points.length).map(line => ({ ...line, points: line.points.map(([x, y]) => [at.x(x), at.y(y)]) }));
  const heights = spread(shown.map(line => line.points.at(-1)[1]), 15, at.bottom - 8);
  return shown.flatMap(({ kind, points, name, dots, dash }, index) => [
    svg('path', { class: `sk-chart-line sk-chart-${kind}`, d: pathOf(points), 'stroke-dasharray': dash }),
    ...(dots ? points.map(([x, y]) => svg('circle', { class: `sk-chart-dot sk-chart-${kind}`, cx: x, cy: y, r: kind === 'chosen' ? 3 : 2 })) : []),
    ...(name && points.length > 1 ? [svg('text', { class: `sk-chart-${kind}`, x: Math.min(points.at(-1)[0] + 10, at.right + 8), y: heights[index] + 4 }, name)] : [])]);
}

/** Draw rings with their texts, each of which stands a line lower than the one before. */
function marksOf(marks, at) {
  const inOrder = [...marks].sort((a, b) => at.x(b.x) - at.x(a.x));
  return inOrder.flatMap(({ x, y, text }, k) => [
    svg('circle', { class: 'sk-chart-mark', cx: at.x(x), cy: at.y(y), r: 4.5 }),
    svg('text', { class: 'sk-chart-name', x: at.x(x) + 9, y: at.y(y) + (k ? 17 : -4) }, text)]);
}

function hintOf({ hint, handle }, at) {
  if (!hint) return [];
  const x = at.x(handle.x);
  return [svg('path', { class: 'sk-chart-hint', d: `M${x + 16} ${at.bottom - 22}h46m-7 -5l7 5l-7 5` }), svg('text', { x: x + 72, y: at.bottom - 18 }, hint)];
}

function handleOf({ x: value, y: height, guess, text }, lowest, at) {
  const waits = height === null, x = at.x(value), y = at.y(waits ? guess ?? lowest : height), turn = x > at.width * 0.6 ? 'end' : 'start';
  return [svg('line', { class: 'sk-chart-stem', x1: x, x2: x, y1: y, y2: at.bottom }),
    svg('circle', { class: waits ? 'sk-chart-handle sk-chart-waits' : 'sk-chart-handle', cx: x, cy: y, r: 7 }),
    svg('text', { class: 'sk-chart-value', x: x + (turn === 'end' ? -12 : 12), y: Math.max(16, y - 10), 'text-anchor': turn }, text)];
}
