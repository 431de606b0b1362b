// The score explorer keeps every mask that the kernel found, and shows the one that its curves point at.

const COLUMNS = ['Layer', 'Shape', 'Connections', 'Density', 'Min fan-in', 'Dead outputs', 'On a path'];
const START = { ready: 'Start', running: 'Pause', paused: 'Resume' };

/** Return the kind of each position of a pruning: 0 is none, 1 lies on no path, and 2 lies on one. */
export function kindsAt(bits, size, number) {
  const stride = Math.ceil(size / 8), from = 2 * number * stride, kinds = new Uint8Array(size);
  for (let at = 0; at < size; at++) {
    const byte = from + (at >> 3), shift = 7 - (at & 7);
    kinds[at] = ((bits[byte] >> shift) & 1) + ((bits[byte + stride] >> shift) & 1);
  }
  return kinds;
}

/** Say in a sentence what a score left of the network. */
export function prunedTitle(score, halving, count, useful, empty) {
  const start = `${score}, ${grouped(2 ** halving)} times smaller`;
  if (empty.length) return `${start}: nothing is left in ${empty.join(', ')}`;
  return `${start}: ${useful === 0 ? 'none' : grouped(useful)} of ${grouped(count)} connections ${useful === 1 ? 'lies' : 'lie'} on a path`;
}

function render({ model, el }) {
  const layers = model.get('layers'), scores = model.get('score_names'), last = model.get('halvings');
  const size = layers.reduce((sum, { rows, cols }) => sum + rows * cols, 0), halvings = Array.from({ length: last + 1 }, (_, k) => k);
  let choice = model.get('choice'), isGone = isRecorded(model), timer = null;

  const title = make('h3', { class: 'sk-title', role: 'status' }), line = make('p', { class: 'sk-soft sk-num' });
  const dial = stopsChart('Compression', 224, halving => choose({ halving }));
  const [group, showScore] = radioGroup('Score', scores, at => choose({ score: scores[at] }));
  const main = make('button', { type: 'button', class: 'sk-main' }, 'Start'), stop = make('button', { type: 'button' }, 'Stop');
  main.addEventListener('click', () => model.send({ press: 'main' }));
  stop.addEventListener('click', () => model.send({ press: 'stop' }));
  const buttons = model.get('presets').map(({ text, ...settings }) => {
    const button = make('button', { type: 'button' }, text);
    button.addEventListener('click', () => choose(settings));
    return button;
  });
  const tiles = layerTiles(layers), table = make('table', { class: 'sk-table' });
  const body = make('div', { class: 'sk-figures' }, make('div', { class: 'sk-tiles' }, ...tiles.map(tile => tile.figure)),
    make('div', { class: 'sk-scroll', tabindex: '0', role: 'region', 'aria-label': 'Layers' }, table));
  const stage = make('section', { class: 'sk-stage sk-explorer', 'aria-label': 'What each score keeps' },
    make('div', { class: 'sk-head' }, title, copyButtonOf(model, () => ({ choice }))), line,
    make('div', { class: 'sk-dials' }, main, stop, ...buttons), dial.element,
    make('div', { class: 'sk-dials' }, make('span', { class: 'sk-label' }, 'Score'), group), body);
  mount(el, stage);

  function choose(changes) {
    choice = { ...choice, ...changes };
    schedule();
    timer ??= setTimeout(() => { timer = null; model.set('choice', choice); model.save_changes(); }, 80);
  }
  const indexOf = (score, halving) => model.get('facts').findIndex(one => one.score === score && one.halving === halving);
  function lineOf(name) {
    const points = halvings.map(halving => [halving, model.get('facts')[indexOf(name, halving)]?.useful]);
    return { name, points: points.filter(([, useful]) => useful !== undefined), chosen: name === choice.score, dots: true, dash: null };
  }
  function drawDial(value) {
    dial.draw({
      stops: halvings, at: choice.halving, value, guess: 0, lines: scores.map(lineOf),
      label: value === null ? (model.get('progress').state === 'running' ? 'working' : 'not computed yet') : `${shareText(value)} on a path`,
      said: `${grouped(2 ** choice.halving)} times smaller, ${value === null ? 'not computed yet' : `${shareText(value)} on a path`}`,
      x: { ends: [0, last], name: 'compression', ticks: halvings.map(halving => [halving, `${grouped(2 ** halving)}×`]) },
      y: { ends: [0, 1], name: 'connections on a path', ticks: [0, 0.5, 1].map(share => [share, `${100 * share} %`]) },
    });
  }
  function drawMasks(number, facts) {
    const parts = cut(kindsAt(bytesOf(model.get('bits')), size, number), layers);
    const colours = [...inks(stage, ['surface']), blend(token(stage, 'faint'), token(stage, 'soft')), ...inks(stage, ['ink'])];
    const counted = parts.map((kinds, index) => countLayer(kinds, layers[index]));
    tiles.forEach((tile, index) => {
      paintKinds(tile, parts[index], colours);
      tile.note.textContent = `${grouped(counted[index].count)}, ${grouped(facts.on_path[index])} on a path`;
      tile.canvas.setAttribute('aria-label', `${tile.name}: ${tile.note.textContent}`);
    });
    const total = counted.reduce((sum, one) => sum + one.count, 0), useful = facts.on_path.reduce((a, b) => a + b, 0);
    title.textContent = prunedTitle(choice.score, choice.halving, total, useful, facts.empty);
    const row = (name, text, positions, one, path) => [name, text, grouped(one.count), shareText(one.count / positions), String(one.least), String(one.deadOutputs), grouped(path)];
    const sum = { count: total, least: Math.min(...counted.map(one => one.least)), deadOutputs: counted.reduce((a, one) => a + one.deadOutputs, 0) };
    fillTable(table, COLUMNS, [...layers.map((layer, index) => row(layer.name, layer.text, layer.rows * layer.cols, counted[index], facts.on_path[index])),
      row('network', '', size, sum, useful)]);
  }
  function draw() {
    const number = indexOf(choice.score, choice.halving), { state, count, total, problem } = model.get('progress');
    const facts = model.get('facts')[number] ?? null;
    if (facts) drawMasks(number, facts);
    else title.textContent = `${choice.score}, ${grouped(2 ** choice.halving)} times smaller: ${state === 'running' ? 'working' : isRecorded(model) ? 'not computed' : 'press Start to compute it'}`;
    body.classList.toggle('sk-stale', !facts);
    body.setAttribute('aria-busy', String(!facts));
    drawDial(facts?.useful ?? null);
    line.textContent = problem || (isGone && !isRecorded(model) ? 'The kernel was restarted. What was computed stays here, and the cell must run again for more.'
      : `${grouped(count)} of ${grouped(total)} masks are computed. Connections in ink lie on a path from an input to an output, grey ones on none.`);
    main.textContent = START[state] ?? 'Done';
    main.hidden = stop.hidden = isRecorded(model);
    main.disabled = isGone || !(state in START);
    stop.disabled = isGone || !['running', 'paused'].includes(state);
    showScore(scores.indexOf(choice.score));
    countDrawing(stage);
  }
  const schedule = oncePerFrame(draw), stopTheme = onTheme(schedule);
  model.on('change:choice', () => { if (timer === null) { choice = model.get('choice'); schedule(); } });
  for (const name of ['facts', 'bits', 'progress']) model.on(`change:${name}`, schedule);
  whenKernelGoes(model, () => { isGone = true; schedule(); });
  requestAnimationFrame(draw); // not at once, because the stage must be on the page before it knows the theme's colours
  return () => { stopTheme(); dial.stop(); };
}
export default { render };
