// A chart that is its own slider: the reader drags along the curve, or uses the arrow keys. Time and pruning both use it.

const CHART = { left: 34, right: 14, top: 12, bottom: 24, height: 116 };

/** Return a scale from [low, high] to CSS pixels, straight or logarithmic. `low` may be larger than `high`. */
export function chartScale({ low, high, log = false }, from, to) {
  const f = log ? Math.log : value => value, [a, b] = [f(low), f(high)], span = b - a || 1;
  return {
    at: value => from + ((f(value) - a) / span) * (to - from),
    back: pixel => { const v = a + clamp((pixel - from) / (to - from), 0, 1) * span; return log ? Math.exp(v) : v; },
  };
}

/**
 * Make a chart of role slider. `move(x)` hears where the reader drags to, and `keySettings` are those of `keys`.
 * `draw(plan)` takes { x: {low, high, log}, labels: [[x, text, anchor]], lines: [{ points, kind }], ticks: [x], marks: [{x, y, text}],
 * at: { x, y, text }, hint, note, value: {min, max, now, text} }. A kind of line is `played`, `ahead` or `trail`.
 */
export function chartSlider(label, move, keySettings) {
  const element = svg('svg', { class: 'sk-chart', role: 'slider', tabindex: 0, 'aria-label': label, 'data-lm-suppress-shortcuts': 'true' });
  let scale = null;
  drag(element, x => { if (scale) move(scale.back(x)); });
  keys(element, keySettings);
  function draw(plan) {
    const width = element.clientWidth || 480;
    element.replaceChildren();
    scale = plan.note ? null : chartScale(plan.x, CHART.left, width - CHART.right);
    drawAxes(element, plan, width);
    if (plan.note) element.append(svg('text', { x: width / 2, y: 52, 'text-anchor': 'middle' }, plan.note));
    else drawPlan(element, plan, scale, width);
    element.setAttribute('aria-disabled', String(Boolean(plan.note)));
    if (!plan.value) return;
    const { min, max, now, text } = plan.value;
    for (const [name, value] of Object.entries({ valuemin: min, valuemax: max, valuenow: now, valuetext: text })) element.setAttribute(`aria-${name}`, value);
  }
  return { element, draw };
}

const chartY = share => CHART.top + (1 - share) * (CHART.height - CHART.top - CHART.bottom);

function drawAxes(element, plan, width) {
  for (const share of [0, 0.5, 1]) {
    element.append(
      svg('line', { class: 'sk-chart-grid', x1: CHART.left, x2: width - CHART.right, y1: chartY(share), y2: chartY(share) }),
      svg('text', { x: CHART.left - 6, y: chartY(share) + 4, 'text-anchor': 'end' }, `${100 * share}`));
  }
}

function drawPlan(element, plan, scale, width) {
  const base = chartY(0);
  for (const [x, text, anchor] of plan.labels ?? []) element.append(svg('text', { x: scale.at(x), y: CHART.height - 5, 'text-anchor': anchor ?? 'middle' }, text));
  for (const x of plan.ticks ?? []) element.append(svg('line', { class: 'sk-chart-tick', x1: scale.at(x), x2: scale.at(x), y1: base, y2: base - 6 }));
  for (const { points, kind } of plan.lines) {
    if (points.length < 2) continue;
    const path = points.map(([x, y]) => `${scale.at(x).toFixed(1)} ${chartY(y).toFixed(1)}`).join('L');
    element.append(svg('path', { class: `sk-chart-${kind}`, d: `M${path}` }));
  }
  drawMarks(element, plan.marks ?? [], scale);
  if (plan.hint) {
    const x = scale.at(plan.at.x);
    element.append(
      svg('path', { class: 'sk-chart-hint', d: `M${x + 16} ${base - 22}h46m-7 -5l7 5l-7 5` }),
      svg('text', { x: x + 72, y: base - 18 }, plan.hint));
  }
  drawHandle(element, scale.at(plan.at.x), chartY(plan.at.y), plan.at.text, width);
}

/** Draw rings with their texts, each of which stands a line lower than the one before. */
function drawMarks(element, marks, scale) {
  const inOrder = [...marks].sort((a, b) => scale.at(b.x) - scale.at(a.x));
  inOrder.forEach(({ x, y, text }, k) => {
    element.append(
      svg('circle', { class: 'sk-chart-mark', cx: scale.at(x), cy: chartY(y), r: 4.5 }),
      svg('text', { class: 'sk-chart-name', x: scale.at(x) + 9, y: chartY(y) + (k ? 17 : -4) }, text));
  });
}

function drawHandle(element, x, y, text, width) {
  const isRight = x > width - 90;
  element.append(
    svg('line', { class: 'sk-chart-stem', x1: x, x2: x, y1: chartY(0), y2: y }),
    svg('circle', { class: 'sk-chart-handle', cx: x, cy: y, r: 7 }),
    svg('text', { class: 'sk-chart-value', x: x + (isRight ? -12 : 12), y: Math.max(y - 9, 12), 'text-anchor': isRight ? 'end' : 'start' }, text));
}
