// The text explorer: a chart over densities chooses who writes on from the reader's prompt, beside the dense network.

const UNLIKELY = 3.0, HARDLY = 4.6; // nats of a chance of 1 in 20, and of 1 in 100, as in Python
const REQUEST = ['prompt', 'temperature', 'seed'];
const NEEDS_KERNEL = 'A prompt of your own needs a kernel, so open this notebook in JupyterLab. The densities work here.';

/** Say how likely the dense network finds a token: 0 is likely, 1 unlikely and 2 hardly likely. */
export const levelOf = nats => (nats >= HARDLY ? 2 : nats >= UNLIKELY ? 1 : 0);

/** Join neighbours of one level, as [level, text] pairs. */
export function runsOf(pieces) {
  const runs = [];
  for (const [text, nats] of pieces) {
    const level = levelOf(nats);
    if (runs.at(-1)?.[0] === level) runs.at(-1)[1] += text; else runs.push([level, text]);
  }
  return runs;
}

export const isSameRequest = (one, other) => REQUEST.every(name => one[name] === other[name]);

/** Return the writer whose text is missing and whose density lies next to the chosen one, or null. */
export function nextMissing(methods, texts, { method, density }) {
  const has = (name, share) => texts.some(one => one.method === name && one.density === share);
  const missing = methods.flatMap(({ name, densities }) => densities.filter(share => !has(name, share)).map(share => [name, share]));
  const distance = ([name, share]) => Math.abs(Math.log(share / density)) + (name === method ? 0 : 100);
  return missing.reduce((best, one) => (best === null || distance(one) < distance(best) ? one : best), null);
}

/** Return the mean of what the dense network needs for each token of a text. */
export const meanNats = pieces => pieces.reduce((sum, [, nats]) => sum + nats, 0) / (pieces.length || 1);

function render({ model, el }) {
  const methods = model.get('methods'), names = methods.map(({ name }) => name), isMute = isRecorded(model);
  let choice = { ...model.get('choice'), ...(isMute ? model.get('request') : {}) }, timer = null, asked = '', isGone = false;

  const title = make('h3', { class: 'sk-title', role: 'status' }), line = make('p', { class: 'sk-soft sk-num' });
  const prompt = make('input', { type: 'text', class: 'sk-write-prompt', value: choice.prompt, disabled: isMute, spellcheck: 'false', autocomplete: 'off' });
  const heat = make('input', { type: 'range', min: 0, max: 1.5, step: 0.1, value: choice.temperature, disabled: isMute }), heatText = make('output', { class: 'sk-value' });
  const again = make('button', { type: 'button', disabled: isMute }, 'Another text');
  const [methodGroup, showMethod] = radioGroup('Method', names, at => choose({ method: names[at], density: nearest(methods[at].densities, choice.density) }));
  const dial = stopsChart('Density', 190, at => choose({ density: methodOf().densities[at] }));
  const sparse = column(), dense = column();
  const key = make('p', { class: 'sk-soft' }, 'Bold: your prompt. Underlined: the dense network gave this character a chance below 1 in 20, and twice underlined: below 1 in 100.');
  const stage = make('section', { class: 'sk-stage sk-explorer sk-write', 'aria-label': 'What networks write' },
    make('div', { class: 'sk-head' }, title, copyButtonOf(model, () => ({ choice }))), line,
    make('div', { class: 'sk-dials' }, ...labelled('Prompt', prompt), ...labelled('Temperature', heat), heatText, again),
    make('div', { class: 'sk-dials' }, ...(names.length > 1 ? [make('span', { class: 'sk-label' }, 'Method'), methodGroup] : [])),
    dial.element, make('div', { class: 'sk-write-two' }, sparse.element, dense.element), key);
  mount(el, stage);

  prompt.addEventListener('input', () => choose({ prompt: prompt.value }));
  heat.addEventListener('input', () => choose({ temperature: Number(heat.value) }));
  again.addEventListener('click', () => choose({ seed: choice.seed + 1 }));

  const methodOf = () => methods[names.indexOf(choice.method)];
  function choose(changes) {
    choice = { ...choice, ...changes };
    schedule();
    clearTimeout(timer);
    const wait = 'prompt' in changes ? 350 : 80; // while somebody types, we wait for the end of a word
    timer = setTimeout(() => { timer = null; model.set('choice', choice); model.save_changes(); }, wait);
  }
  /** Ask for the next text that the reader may want, one at a time, because each takes the kernel a moment. */
  function prefetch() {
    if (isMute || isGone || timer !== null || !isSameRequest(choice, model.get('request'))) return;
    const next = nextMissing(methods, model.get('texts'), choice), name = JSON.stringify([model.get('request'), next]);
    if (next === null || name === asked) return;
    asked = name;
    model.send({ write: next });
  }
  const textOf = (method, density) => (isSameRequest(choice, model.get('request')) || isMute
    ? model.get('texts').find(one => one.method === method && one.density === density)?.pieces : null) ?? null;

  function drawDial(loss) {
    const of = methodOf(), lowest = Math.min(model.get('dense_loss'), ...methods.flatMap(one => one.losses));
    const highest = Math.max(model.get('dense_loss'), ...methods.flatMap(one => one.losses)), margin = Math.max(0.05, 0.1 * (highest - lowest));
    const y = [lowest - margin, highest + margin], shares = [...new Set(methods.flatMap(one => one.densities))].sort((a, b) => a - b);
    const lines = methods.map(one => ({ name: one.name, chosen: one.name === choice.method, dots: true, points: one.densities.map((share, k) => [share, one.losses[k]]) }));
    dial.draw({
      stops: of.densities, at: of.densities.indexOf(choice.density), value: loss, label: `${loss.toFixed(2)} nats`,
      lines: [...lines, { name: 'dense', chosen: false, dash: '2 3', points: [[shares[0], model.get('dense_loss')], [1, model.get('dense_loss')]] }],
      said: `density ${percent(choice.density)}, ${loss.toFixed(2)} nats per character`,
      x: { ends: [shares[0], 1], log: true, name: 'density', ticks: [...shares, 1].map(share => [share, percent(share, share < 0.1 ? 1 : 0)]) },
      y: { ends: y, name: 'nats per character, test text', ticks: ticks(...y, 3).map(value => [value, value.toFixed(1)]) },
    });
  }
  function draw() {
    const of = methodOf(), loss = of.losses[of.densities.indexOf(choice.density)], behind = loss - model.get('dense_loss');
    const mine = textOf(choice.method, choice.density), other = textOf('dense', 1);
    title.textContent = `With ${percent(choice.density, choice.density < 0.1 ? 1 : 0)} of the connections ${choice.method} is ${Math.abs(behind).toFixed(2)} nats per character ${behind < 0 ? 'ahead of' : 'behind'} the dense network`;
    line.textContent = isMute ? NEEDS_KERNEL : isGone ? 'The kernel was restarted. Run the cell again to let the networks write.'
      : model.get('problem') || (mine && other ? `The dense network needs ${meanNats(mine).toFixed(2)} nats for a token of the left text, and ${meanNats(other).toFixed(2)} for one of its own.` : 'The networks are writing ...');
    sparse.draw(`${choice.method}, ${percent(choice.density, choice.density < 0.1 ? 1 : 0)} of the connections`, choice.prompt, mine);
    dense.draw('Dense, all connections', choice.prompt, other);
    heatText.textContent = choice.temperature.toFixed(1);
    heat.setAttribute('aria-valuetext', choice.temperature.toFixed(1));
    if (document.activeElement !== prompt && prompt.value !== choice.prompt) prompt.value = choice.prompt;
    if (Number(heat.value) !== choice.temperature) heat.value = choice.temperature;
    prompt.disabled = heat.disabled = again.disabled = isMute || isGone;
    showMethod(names.indexOf(choice.method));
    drawDial(loss);
    countDrawing(stage);
    prefetch();
  }
  const schedule = oncePerFrame(draw), stopTheme = onTheme(schedule);
  model.on('change:choice', () => { if (timer === null) { choice = model.get('choice'); schedule(); } });
  for (const name of ['texts', 'request', 'problem']) model.on(`change:${name}`, schedule);
  whenKernelGoes(model, () => { isGone = true; schedule(); });
  requestAnimationFrame(draw); // not at once, because the stage must be on the page before it knows the theme's colours
  return () => { stopTheme(); dial.stop(); clearTimeout(timer); };
}

/** Return the density of a list that is nearest to another one. */
export const nearest = (densities, to) => densities.reduce((best, one) => (Math.abs(Math.log(one / to)) < Math.abs(Math.log(best / to)) ? one : best));

/** Make a column for a text. Until a new one is there, the last one stays, greyed. */
function column() {
  const name = make('h4', { class: 'sk-figtitle' }), text = make('p', { class: 'sk-write-text', tabindex: 0 });
  function draw(label, prompt, pieces) {
    name.textContent = label;
    text.setAttribute('aria-label', `Text of ${label}`);
    text.classList.toggle('sk-stale', pieces === null);
    if (pieces === null) return;
    const marked = runsOf(pieces).map(([level, part]) => (level ? make('span', { class: `sk-write-${level}` }, part) : part));
    text.replaceChildren(make('strong', {}, prompt), ...marked);
  }
  return { element: make('div', { class: 'sk-write-column' }, name, text), draw };
}
export default { render };
