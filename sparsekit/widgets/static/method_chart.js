// Accuracy over steps, a line for each method with a band over its seeds. The chart is also the control of time.

const SIDE = { left: 38, right: 150, top: 12, bottom: 26 }; // room for axes, and for labels of some twenty letters
let charts = 0;
export const MARKS = {
  s: 'M-4.5-4.5h9v9h-9z', '^': 'M0-5.5L5 4.2H-5z', o: 'M-4.8 0a4.8 4.8 0 1 0 9.6 0a4.8 4.8 0 1 0-9.6 0z', D: 'M0-5.8L5.8 0L0 5.8L-5.8 0z',
  v: 'M0 5.5L5-4.2H-5z', '>': 'M5.5 0L-4.2 5V-5z', '<': 'M-5.5 0L4.2 5V-5z', P: 'M-1.8-5h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z',
  X: 'M-5-2.5L-2.5-5L0-2.5L2.5-5L5-2.5L2.5 0L5 2.5L2.5 5L0 2.5L-2.5 5L-5 2.5L-2.5 0z',
};
export const markOf = name => MARKS[name] || MARKS.P;
const meanOf = numbers => numbers.reduce((a, b) => a + b, 0) / numbers.length;

/** Return mean, lowest and highest accuracy of a method at every step where its runs were measured, up to `upto`. */
export function bandOf(runs, from = 0, upto = Infinity) {
  const reach = Math.min(upto, ...runs.map(run => run.measured.at(-1) ?? -1));
  const steps = [...new Set(runs.flatMap(run => run.measured))].filter(step => step >= from && step <= reach).sort((a, b) => a - b);
  if (reach === upto && upto >= from && steps.length && steps.at(-1) < upto) steps.push(upto);
  return steps.map(step => {
    const all = runs.map(run => accuracyAt(run, step)).filter(Number.isFinite);
    return { step, mean: meanOf(all), low: Math.min(...all), high: Math.max(...all) };
  }).filter(point => Number.isFinite(point.mean));
}

/** Make the chart. `draw(view)` shows series, `on(step)` hears where the reader drags to. */
export function methodChart(label, height, on) {
  const node = svg('svg', { class: 'sk-time', role: 'slider', tabindex: 0, 'aria-label': label, 'data-lm-suppress-shortcuts': 'true', height });
  node.dataset.clip = `sk-clip-${charts++}-${Math.random().toString(36).slice(2)}`; // an id that no other chart on the page has
  let view = null;
  const stepOf = x => clamp(Math.round(((x - SIDE.left) / (node.clientWidth - SIDE.left - SIDE.right)) * view.total), 0, view.total);
  drag(node, x => view && on(stepOf(x)));
  keys(node, { min: () => 0, max: () => view?.total ?? 0, step: 20, big: 100, get: () => view?.step ?? 0, set: step => on(Math.round(step)) });
  const draw = next => { view = next; drawChart(node, height, view); };
  return { node, draw };
}

function drawChart(node, height, view) {
  const width = node.clientWidth || 900, bottom = height - SIDE.bottom, wide = width - SIDE.left - SIDE.right;
  const x = step => SIDE.left + (step / view.total) * wide;
  const y = value => SIDE.top + ((1 - value) / (1 - view.low)) * (bottom - SIDE.top);
  const frame = svg('rect', { x: SIDE.left, y: 0, width: wide + 8, height: bottom });
  node.replaceChildren(svg('clipPath', { id: node.dataset.clip }, frame), ...grid(view, x, y, width, bottom, height), ...rewiringMarks(view, x, bottom));
  const ends = view.series.map(one => drawSeries(node, one, view, x, y)), spots = spread(ends.map(end => y(end) + 4), 17, bottom);
  view.series.forEach((one, k) => {
    if (!Number.isFinite(ends[k])) return;
    const where = { x: width - SIDE.right + 27, y: spots[k], class: 'sk-end' };
    node.append(mark(one, width - SIDE.right + 16, spots[k] - 4), svg('text', where, `${one.short ?? one.label} ${percent(ends[k])}`));
  });
  node.append(svg('line', { x1: x(view.step), x2: x(view.step), y1: SIDE.top, y2: bottom, class: 'sk-now' }),
    svg('circle', { cx: x(view.step), cy: bottom, r: 7, class: 'sk-handle' }));
  for (const [name, value] of Object.entries({ valuemin: 0, valuemax: view.total, valuenow: view.step, valuetext: view.text })) {
    node.setAttribute(`aria-${name}`, value);
  }
}

const mark = (one, x, y) => svg('path', { d: markOf(one.marker), transform: `translate(${x} ${y})`, style: `fill:${one.colour}` });

function grid(view, x, y, width, bottom, height) {
  const parts = [];
  for (const value of ticks(view.low, 1, 4)) {
    parts.push(svg('line', { x1: SIDE.left, x2: width - SIDE.right, y1: y(value), y2: y(value), class: 'sk-gridline' }),
      svg('text', { x: SIDE.left - 7, y: y(value) + 4, 'text-anchor': 'end' }, `${Math.round(100 * value)}`));
  }
  for (const step of ticks(0, view.total, clamp(width / 160, 2, 8))) {
    parts.push(svg('text', { x: x(step), y: height - 6, 'text-anchor': 'middle' }, step ? grouped(step) : 'start'));
  }
  return parts;
}

/** A small stroke on the axis for every rewiring of the chosen run, and a line where rewiring ends. */
function rewiringMarks(view, x, bottom) {
  const parts = view.rewired.map(step => svg('line', { x1: x(step), x2: x(step), y1: bottom, y2: bottom + 5, class: 'sk-tick' }));
  for (const { step, text } of view.flags) {
    const isRight = x(step) < 170 && x(view.total) > 400;
    parts.push(svg('line', { x1: x(step), x2: x(step), y1: SIDE.top, y2: bottom, class: 'sk-flag' }),
      svg('text', { x: x(step) + (isRight ? 6 : -6), y: bottom - 8, 'text-anchor': isRight ? 'start' : 'end' }, x(view.total) > 300 ? text : ''));
  }
  return parts;
}

/** Draw a method's band, its whole line pale and what has been played in full. Returns where the line ends. */
function drawSeries(node, one, view, x, y) {
  const points = bandOf(one.runs, one.from), played = bandOf(one.runs, one.from, view.step);
  if (!points.length) return NaN;
  const line = list => list.map(({ step, mean }, k) => `${k ? 'L' : 'M'}${x(step).toFixed(1)} ${y(mean).toFixed(1)}`).join('');
  const inside = { 'clip-path': `url(#${node.dataset.clip})` };
  const style = (width, opacity) => ({ ...inside, class: 'sk-series', style: `stroke:${one.colour};stroke-width:${width};opacity:${opacity}`, 'stroke-dasharray': one.dash });
  if (one.runs.length > 1) {
    const edge = key => points.map(point => `${x(point.step).toFixed(1)} ${y(point[key]).toFixed(1)}`);
    node.append(svg('path', { d: `M${edge('high').join('L')}L${edge('low').reverse().join('L')}Z`, ...inside, style: `fill:${one.colour};opacity:.13` }));
  }
  node.append(svg('path', { d: line(points), ...style(1.4, 0.4) }));
  if (played.length > 1) node.append(svg('path', { d: line(played), ...style(2.6, 1) }));
  for (let k = 1; k < 8; k += 2) {
    const at = one.from + ((view.total - one.from) * k) / 8, here = played.findLast(point => point.step <= at);
    if (here && here.mean >= view.low && played.at(-1).step >= at) {
      const dot = mark(one, x(here.step), y(here.mean));
      dot.setAttribute('class', 'sk-dot'); node.append(dot);
    }
  }
  return points.at(-1).mean;
}
