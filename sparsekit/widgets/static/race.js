// The race: several methods from one start, each as its whole network, and one chart that is also the control of time.

const STORY = 11000; // milliseconds that the film of a whole training takes
const MAIN = { ready: 'Start', running: 'Pause', paused: 'Resume' };

/** Build a method's lane: its name, accuracy, words, network and three numbers. */
function makeLane(rule) {
  const number = make('span', { class: 'sk-num sk-lane-number' }), canvas = make('canvas', { role: 'img' });
  const values = ['idle', 'moved so far', 'new now'].map(name => [make('dt', {}, name), make('dd', {})]);
  const sign = svg('svg', { width: 14, height: 14, viewBox: '-7 -7 14 14', 'aria-hidden': 'true' }, svg('path', { d: markOf(rule.marker), style: 'fill:var(--mine)' }));
  const lane = make('article', { class: 'sk-lane' },
    make('h3', {}, make('span', {}, sign, ` ${rule.label}`), number), make('p', { class: 'sk-soft' }, rule.words), canvas,
    make('dl', { class: 'sk-num' }, ...values.map(([dt, dd]) => make('div', {}, dd, dt))));
  lane.style.setProperty('--mine', colourOf(rule));
  return { lane, number, canvas, values: values.map(([, dd]) => dd), idle: values[0][0], rule };
}

/** Say what the race shows at a step. The verdict comes from Python with the last numbers. */
function titleOf(model, step) {
  const count = model.get('count'), state = model.get('state');
  if (step >= model.get('done') && !(state in MAIN) && model.get('verdict')) return model.get('verdict');
  if (step === 0) return `${model.get('rules').length} times the same network of ${grouped(count)} connections. Who finds better ones?`;
  return state === 'running' ? 'The same budget and the same start. Who finds better connections?' : 'The same budget, the same start, and other connections at every moment';
}

function render({ model, el }) {
  const rules = model.get('rules'), shape = shapeOf(model.get('layers')), total = model.get('total'), image = model.get('image');
  const shown = { step: model.get('step') ?? 0, seed: model.get('start'), follows: model.get('step') === null, playing: false, runs: [], spots: new Map() };
  const title = make('h2', { class: 'sk-title' }), lanes = rules.map(makeLane);
  const main = make('button', { type: 'button', class: 'sk-main' }), where = make('span', { class: 'sk-soft sk-num', 'aria-live': 'off' });
  const again = make('button', { type: 'button' }, 'Stop');
  const [seeds, chooseSeed] = radioGroup('Start', model.get('seeds').map((_, k) => `Start ${k + 1}`), k => { shown.seed = k; model.set('start', k); model.save_changes(); schedule(); });
  const inits = model.get('inits');
  const [init, chooseInit] = radioGroup('Initial weights', inits.map(name => `Initial weights: ${name}`), k => { model.set('init', inits[k]); model.save_changes(); if (isRecorded(model)) showOther(inits[k]); });
  const problem = make('p', { class: 'sk-error', role: 'alert' });
  const chart = methodChart('Training step', 184, step => { play(false); shown.follows = step >= model.get('done'); go(step); });
  mount(el, make('section', { class: 'sk-stage sk-race', 'aria-label': 'Race' }, make('div', { class: 'sk-head' }, title, copyButtonOf(model)), make('p', { class: 'sk-soft' }, model.get('lede')),
    make('div', { class: 'sk-lanes' }, ...lanes.map(one => one.lane)),
    make('div', { class: 'sk-bar' }, main, again, ...(model.get('seeds').length > 1 ? [seeds] : []), ...(inits.length > 1 ? [init] : []), where), problem,
    chart.node, make('p', { class: 'sk-soft sk-foot' }, model.get('legend'))));

  function showOther(name) { // in a page, which has the runs that were finished
    const other = model.get('others')[name];
    model.set('problem', other ? '' : `This page has no runs with initial weights of ${name}. Open the notebook in JupyterLab to train them.`);
    for (const [trait, value] of Object.entries(other ?? {})) model.set(trait, value);
  }
  const running = () => ['running', 'paused'].includes(model.get('state'));
  const go = step => { shown.step = clamp(Math.round(step), 0, total); model.set('step', shown.follows ? null : shown.step); schedule(); }; // the kernel need not know
  const runOf = (rule, seed) => shown.runs.find(run => run.rule === rule && run.seed === seed);

  function read() {
    shown.runs = model.get('film').map(run => ({ ...openRun(run), total }));
    shown.spots.clear();
    if (shown.follows) shown.step = model.get('done');
    schedule();
  }

  function drawLane(one, k) {
    const run = runOf(k, shown.seed);
    if (!run || !one.lane.isConnected) return;
    const { pen, width, height } = penFor(one.canvas, 0.72), key = `${k} ${shown.seed} ${width}`;
    if (!shown.spots.has(key)) shown.spots.set(key, settle(shape, running() ? { frames: [run.frames[0]] } : run, image, width, height));
    const scene = sceneOf(shape, run, shown.step), accuracy = accuracyAt(run, shown.step);
    const hue = one.rule.token ? token(one.lane, one.rule.token) : one.rule.colour;
    drawGraph(pen, shown.spots.get(key), scene, inkOf(one.lane, hue), width, height);
    one.number.textContent = Number.isFinite(accuracy) ? percent(accuracy) : '–';
    one.idle.textContent = `idle of ${shape.first.at(-2) - shape.units[0]} units`;
    [String(scene.idle), percent(scene.moved, 0), String(scene.grown)].forEach((text, n) => { one.values[n].textContent = text; });
    one.canvas.setAttribute('aria-label', `${one.rule.label} after ${shown.step} steps: ${scene.count} connections, ${scene.idle} idle units, ${scene.grown} new`);
  }

  function drawTime() {
    const series = rules.map((rule, k) => ({ ...rule, colour: colourOf(rule), from: 0, runs: shown.runs.filter(run => run.rule === k) }));
    const moving = shown.runs.find(run => run.seed === shown.seed && run.rewired.length), last = moving?.rewired.at(-1);
    const flags = last && !running() && last < total ? [{ step: last, text: 'rewiring ends' }] : [];
    const numbers = rules.map((rule, k) => [rule, runOf(k, shown.seed)]).filter(([, run]) => run)
      .map(([rule, run]) => `${rule.label} ${Number.isFinite(accuracyAt(run, shown.step)) ? percent(accuracyAt(run, shown.step)) : 'not measured'}`);
    chart.draw({ total, step: shown.step, low: 0, series, flags, rewired: moving?.rewired ?? [], text: `step ${shown.step}: ${numbers.join(', ')}` });
  }

  function draw() {
    const state = model.get('state'), isOver = !(state in MAIN);
    title.textContent = titleOf(model, shown.step);
    main.textContent = MAIN[state] ?? (shown.playing ? 'Pause' : 'Play');
    main.disabled = isOver && !shown.runs.some(run => run.measured.length);
    again.hidden = !running() || isRecorded(model);
    main.hidden = isRecorded(model) && state in MAIN;
    for (const button of init.children) button.disabled = running();
    where.textContent = shown.step ? `Step ${grouped(shown.step)} of ${grouped(total)}` : 'Before training';
    problem.textContent = model.get('problem');
    chooseSeed(shown.seed); chooseInit(inits.indexOf(model.get('init')));
    lanes.forEach(drawLane); drawTime();
    countDrawing(chart.node);
  }

  const schedule = oncePerFrame(draw);
  function play(on) {
    shown.playing = on;
    if (on) shown.follows = false;
    if (on && shown.step >= total) shown.step = 0;
    let then = 0;
    const tick = now => {
      if (!shown.playing) return;
      if (then) go(shown.step + Math.max(1, ((now - then) * total) / STORY));
      then = now;
      if (shown.step >= total) play(false); else requestAnimationFrame(tick);
    };
    if (on && prefersStill()) { shown.playing = false; shown.step = total; } else if (on) requestAnimationFrame(tick);
    schedule();
  }
  main.addEventListener('click', () => {
    if (model.get('state') in MAIN) { shown.follows = true; model.send({ press: 'main' }); } else play(!shown.playing);
  });
  again.addEventListener('click', () => model.send({ press: 'stop' }));
  model.on('change:film', read);
  model.on('change:start', () => { shown.seed = model.get('start'); schedule(); });
  for (const name of ['state', 'init', 'problem', 'verdict']) model.on(`change:${name}`, () => {
    if (name === 'init') shown.follows = true; // other weights are other runs
    if (name !== 'problem') shown.spots.clear();
    schedule();
  });
  const watcher = new ResizeObserver(() => { shown.spots.clear(); schedule(); }), stopWatching = onTheme(schedule);
  watcher.observe(el);
  read();
  return () => { shown.playing = false; watcher.disconnect(); stopWatching(); };
}
export default { render };
