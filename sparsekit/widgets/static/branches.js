// Go back to a rewiring of a run and continue in another way. Both futures stay in the chart.

const ASIDE = { left: 38, right: 150, top: 10, bottom: 18 };

/** Return how much a branch has in common with the original from where it begins, and what is new at each rewiring. */
export function compared(original, other, from) {
  const steps = [...new Set([from, ...original.rewired, ...other.rewired])].filter(step => step >= from).sort((a, b) => a - b);
  const reach = other.measured.at(-1) ?? from;
  const at = (run, step) => run.frames[rewiringsAt(run, step)];
  return steps.filter(step => step <= reach).map(step => ({ step, common: overlap(at(original, step), at(other, step)) }));
}

/** Return the churn of each rewiring: the share of connections that are new. */
export function churnOf(run) {
  return run.rewired.map((step, k) => {
    const now = run.frames[k + 1];
    return { step, churn: missingIn(now, run.frames[k]).reduce((a, b) => a + b, 0) / Math.max(1, now.length) };
  });
}

function makeLaneOf() {
  const number = make('span', { class: 'sk-num sk-lane-number' }), name = make('span', {}), words = make('p', { class: 'sk-soft' });
  const canvas = make('canvas', { role: 'img' }), facts = make('p', { class: 'sk-soft sk-num' });
  return { lane: make('article', { class: 'sk-lane' }, make('h3', {}, name, number), words, canvas, facts), number, name, words, canvas, facts };
}

const choiceOf = (label, values, texts) => {
  const select = make('select', {}, ...values.map((value, k) => make('option', { value }, texts[k])));
  return { select, field: make('span', { class: 'sk-choice' }, ...labelled(label, select)) };
};

/** Draw what both have in common as lines, and what is new at each rewiring as dots. */
function drawAside(node, view) {
  const width = node.clientWidth || 900, height = 86, bottom = height - ASIDE.bottom;
  const x = step => ASIDE.left + (step / view.total) * (width - ASIDE.left - ASIDE.right), y = value => ASIDE.top + (1 - value) * (bottom - ASIDE.top);
  node.replaceChildren(...[0, 0.5, 1].flatMap(value => [
    svg('line', { x1: ASIDE.left, x2: width - ASIDE.right, y1: y(value), y2: y(value), class: 'sk-gridline' }),
    svg('text', { x: ASIDE.left - 7, y: y(value) + 4, 'text-anchor': 'end' }, String(100 * value))]));
  for (const [k, { colour, dash, churn, common }] of view.lines.entries()) {
    const faint = k && k !== view.chosen ? 0.3 : 1;
    for (const dot of churn) node.append(svg('circle', { cx: x(dot.step), cy: y(dot.churn), r: 2.2, style: `fill:${colour};opacity:${0.75 * faint}` }));
    const path = common.map((point, k) => `${k ? `H${x(point.step)}V` : `M${x(point.step)} `}${y(point.common)}`).join('');
    if (common.length) node.append(svg('path', { d: `${path}H${x(view.total)}`, class: 'sk-series', style: `stroke:${colour};stroke-width:2.2;opacity:${faint}`, 'stroke-dasharray': dash }));
  }
  const chosen = view.lines[view.chosen]?.common.at(-1);
  if (chosen) node.append(svg('text', { x: width - ASIDE.right + 10, y: clamp(y(chosen.common) + 4, 12, bottom), class: 'sk-end' }, `${percent(chosen.common, 0)} in common`));
  node.append(svg('line', { x1: x(view.step), x2: x(view.step), y1: ASIDE.top, y2: bottom, class: 'sk-now' }));
}

function render({ model, el }) {
  const shape = shapeOf(model.get('layers')), total = model.get('total'), image = model.get('image');
  const first = model.get('choice'), shown = { step: first.step, chosen: first.chosen, follows: false, runs: [], spots: new Map(), common: [] };
  const title = make('h2', { class: 'sk-title' }), pair = [makeLaneOf(), makeLaneOf()];
  const options = model.get('options'), asItIs = text => `as it is (${text})`;
  const rule = choiceOf('Rule', ['', ...options.rules], [asItIs(options.rule), ...options.labels]);
  const fraction = choiceOf('Drop fraction', ['', ...options.fractions], [asItIs(options.fraction), ...options.fractions]);
  const density = choiceOf('Density', ['', ...options.densities], [asItIs(percent(options.density)), ...options.densities.map(value => percent(value))]);
  const main = make('button', { type: 'button', class: 'sk-main sk-wide' }), halt = make('button', { type: 'button' }, 'Pause');
  const futures = make('div', { class: 'sk-bar' }), problem = make('p', isRecorded(model) ? { class: 'sk-soft' } : { class: 'sk-error', role: 'alert' });
  const chart = methodChart('Training step, and where to go back to', 176, step => { shown.step = step; shown.follows = busy() && step >= model.get('done'); schedule(); });
  const aside = svg('svg', { class: 'sk-time', role: 'img', height: 86, style: 'cursor:default' });
  const asideTitle = make('p', { class: 'sk-figtitle' });
  mount(el, make('section', { class: 'sk-stage sk-branches', 'aria-label': 'Branches of a run' },
    make('div', { class: 'sk-head' }, title, copyButtonOf(model, () => ({ choice: choiceNow() }))), make('p', { class: 'sk-soft' }, model.get('lede')),
    make('div', { class: 'sk-lanes sk-pair' }, ...pair.map(one => one.lane)),
    make('div', { class: 'sk-bar' }, rule.field, fraction.field, density.field, main, halt), problem, futures,
    chart.node, asideTitle, aside, make('p', { class: 'sk-soft sk-foot' }, model.get('legend'))));

  const choiceNow = () => ({ ...model.get('choice'), step: shown.step, chosen: shown.chosen,
    rule: rule.select.value, drop_fraction: fraction.select.value, density: density.select.value });
  const tell = () => { model.set('choice', choiceNow()); model.save_changes(); schedule(); };
  const busy = () => ['running', 'paused'].includes(model.get('state'));
  const armOf = k => model.get('arms')[k];
  const spot = () => rewiringsAt(shown.runs[0], shown.step);

  function read() {
    const before = shown.runs.length;
    shown.runs = model.get('film').map(run => ({ ...openRun(run), total }));
    if (shown.runs.length > before) { shown.follows = busy(); shown.chosen = (!before && first.chosen) || Math.max(1, shown.runs.length - 1); shown.spots.clear(); }
    shown.common = shown.runs.map((run, k) => (k ? compared(shown.runs[0], run, armOf(k)?.from ?? 0) : []));
    if (shown.follows) shown.step = Math.max(armOf(shown.chosen)?.from ?? 0, model.get('done'));
    schedule();
  }

  function drawLaneOf(one, k, against) {
    const run = shown.runs[k], arm = armOf(k);
    one.lane.hidden = !run || !arm;
    if (one.lane.hidden || !one.lane.isConnected) return;
    one.lane.style.setProperty('--mine', colourOf(arm));
    const { pen, width, height } = penFor(one.canvas, 0.31), key = `${k} ${width}`;
    if (!shown.spots.has(key)) shown.spots.set(key, settle(shape, shown.runs[0], image, width, height)); // both on the same spots
    const scene = sceneOf(shape, run, shown.step), at = run.frames[rewiringsAt(run, shown.step)];
    const other = shown.runs[against], there = other ? other.frames[rewiringsAt(other, shown.step)] : at;
    scene.marked = missingIn(at, there);
    drawGraph(pen, shown.spots.get(key), scene, inkOf(one.lane, arm.token ? token(one.lane, arm.token) : arm.colour), width, height);
    const accuracy = accuracyAt(run, shown.step), alone = scene.marked.reduce((a, b) => a + b, 0);
    one.name.textContent = arm.label; one.words.textContent = arm.words;
    one.number.textContent = Number.isFinite(accuracy) ? percent(accuracy) : '–';
    one.facts.textContent = `${grouped(scene.count)} connections${other ? `, ${percent(alone / Math.max(1, scene.count), 0)} of them only here (ink)` : ''}, ${scene.idle} idle units`;
    one.canvas.setAttribute('aria-label', `${arm.label} after ${shown.step} steps: ${one.facts.textContent}`);
  }

  function drawTime() {
    const arms = model.get('arms'), chosen = armOf(shown.chosen);
    const series = shown.runs.map((run, k) => ({ ...arms[k], colour: colourOf(arms[k]), runs: [run] }));
    const ends = shown.runs.flatMap(run => [accuracyAt(run, total * 0.25), run.accuracy.at(-1)]).filter(Number.isFinite);
    const low = clamp(Math.floor(10 * Math.min(...ends, 1) - 1) / 10, 0, 0.8);
    const flags = chosen ? [{ step: chosen.from, text: chosen.from ? 'they part here' : '' }] : [];
    const text = `step ${shown.step}, ${spot()} rewirings: ${shown.runs.map((run, k) => `${arms[k].label} ${percent(accuracyAt(run, shown.step) || 0)}`).join(', ')}`;
    chart.draw({ total, step: shown.step, low, series, flags, rewired: shown.runs[0].rewired, text });
    const lines = shown.runs.map((run, k) => ({ colour: colourOf(arms[k]), dash: arms[k].dash, common: shown.common[k], churn: churnOf(run).filter(dot => dot.step >= arms[k].from) }));
    drawAside(aside, { total, step: shown.step, lines, chosen: shown.chosen });
    const last = shown.common[shown.chosen]?.at(-1);
    asideTitle.textContent = last ? `${percent(last.common, 0)} of the connections are still in common` : 'Each rewiring exchanges fewer connections than the one before';
    aside.setAttribute('aria-label', `${asideTitle.textContent}. Lines show the overlap with the original, dots the share that is new at each rewiring.`);
  }

  function drawFutures() {
    const arms = model.get('arms').slice(1, shown.runs.length);
    futures.hidden = arms.length < 2;
    if (futures.childElementCount === (arms.length ? 1 : 0) && futures.dataset.arms === String(arms.length)) return;
    const [group, choose] = radioGroup('Branch', arms.map(arm => arm.label), k => { shown.chosen = k + 1; tell(); });
    choose(shown.chosen - 1); futures.replaceChildren(group); futures.dataset.arms = arms.length;
  }

  function draw() {
    const state = model.get('state'), at = spot(), isStatic = (rule.select.value || options.rule_name) === 'static';
    const changes = rule.select.value || fraction.select.value || density.select.value;
    title.textContent = shown.step >= total && model.get('verdict') ? model.get('verdict') : `After ${at} of ${shown.runs[0].rewired.length} rewirings: what if the training went on in another way?`;
    main.textContent = busy() ? 'Training …' : `Continue from rewiring ${at}`;
    main.disabled = busy() || isRecorded(model); halt.hidden = !busy(); halt.textContent = state === 'paused' ? 'Resume' : 'Pause';
    fraction.select.disabled = isStatic; if (isStatic) fraction.select.value = '';
    main.title = changes ? '' : 'Without a change the branch equals the original bit for bit';
    problem.textContent = isRecorded(model) ? 'To continue, open the notebook in JupyterLab. This page has no kernel, and shows the branches that were recorded.' : model.get('problem');
    drawFutures();
    drawLaneOf(pair[0], 0, shown.chosen); drawLaneOf(pair[1], shown.chosen, 0); drawTime();
    countDrawing(chart.node);
  }

  const schedule = oncePerFrame(draw), numberOf = select => (select.value === '' ? null : Number(select.value));
  main.addEventListener('click', () => model.send({ press: 'continue', rewiring: spot(), rule: rule.select.value || null, drop_fraction: numberOf(fraction.select), density: numberOf(density.select) }));
  halt.addEventListener('click', () => model.send({ press: 'main' }));
  for (const [one, name] of [[rule, 'rule'], [fraction, 'drop_fraction'], [density, 'density']]) { one.select.value = first[name]; one.select.addEventListener('change', tell); }
  model.on('change:film', read);
  for (const name of ['state', 'problem', 'verdict', 'arms']) model.on(`change:${name}`, schedule);
  const watcher = new ResizeObserver(() => { shown.spots.clear(); schedule(); }), stopWatching = onTheme(schedule);
  watcher.observe(el);
  read();
  return () => { watcher.disconnect(); stopWatching(); };
}
export default { render };
