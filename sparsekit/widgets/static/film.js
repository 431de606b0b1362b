// Scrub or play every rewiring of a run. Everything lies in the browser, so we never ask the kernel.

const KINDS = [['born', 'Born'], ['kept', 'Kept'], ['dropped', 'Dropped']];

/** Build the slider, Play, the layer picker, and the switches that are also the legend. */
function buildPanel(model, layers, colours, lessMotion) {
  const play = make('button', { type: 'button', class: 'sk-button sk-main', title: lessMotion ? 'Plays one rewiring per second' : 'Plays five rewirings per second' }, 'Play');
  const range = make('input', { type: 'range', min: 0, step: 1 });
  const value = make('output', { class: 'sk-value' });
  const picker = make('select', {}, ...layers.map(({ name }, index) => make('option', { value: index }, name)));
  const switches = KINDS.map(([kind, text]) => {
    const box = make('input', { type: 'checkbox', checked: true }), swatch = make('span', { class: 'sk-swatch' }), number = make('span', { class: 'sk-count' });
    swatch.style.background = `var(--sk-${colours[kind]})`;
    return { kind, box, number, label: make('label', {}, box, swatch, make('span', {}, `${text} `), number) };
  });
  const bar = make('div', { class: 'sk-controls sk-row' }, play,
    make('div', { class: 'sk-field sk-is-range' }, ...labelled('Rewiring', range), value),
    make('div', { class: 'sk-field' }, ...labelled('Layer', picker)), copyButtonOf(model));
  return { play, range, value, picker, switches, bar, legend: make('div', { class: 'sk-legend', role: 'group', 'aria-label': 'Show' }, ...switches.map(one => one.label)) };
}

/** Draw the bars of this frame over an outline of the first one. The axes stay the same throughout the film. */
function drawBars(canvas, { width, units, highest }, frame, title, ink) {
  const W = 250, H = 150, left = 36, bottom = H - 34, top = 20;
  const c = lineCanvas(canvas, W, H), text = c.fillStyle;
  const bars = units[frame], wide = (W - left - 6) / bars.length;
  const toY = number => bottom - (bottom - top) * number / highest;
  c.fillStyle = ink;
  bars.forEach((number, k) => c.fillRect(left + k * wide + 0.5, toY(number), Math.max(1, wide - 1), bottom - toY(number)));
  c.fillStyle = text; c.lineWidth = 1.2; c.setLineDash([3, 2]); c.beginPath(); c.moveTo(left, bottom);
  units[0].forEach((number, k) => { c.lineTo(left + k * wide, toY(number)); c.lineTo(left + (k + 1) * wide, toY(number)); });
  c.lineTo(W - 6, bottom); c.stroke(); c.setLineDash([]);
  c.textAlign = 'left'; c.fillText(title, left, 12);
  c.textAlign = 'right'; c.textBaseline = 'middle';
  for (const tick of ticks(0, highest, 3)) if (Number.isInteger(tick)) c.fillText(String(tick), left - 5, toY(tick));
  c.textAlign = 'center'; c.textBaseline = 'top';
  for (const tick of ticks(0, (bars.length - 1) * width, 4)) {
    if (Number.isInteger(tick)) c.fillText(String(tick), left + (Math.floor(tick / width) + 0.5) * wide, bottom + 4);
  }
  c.fillText('connections', (left + W) / 2, bottom + 18);
  canvas.setAttribute('aria-label', `${title}: ${bars.map((number, k) => [number, k]).filter(([number]) => number)
    .map(([number, k]) => `${number} with ${k * width}${width > 1 ? ` to ${(k + 1) * width - 1}` : ''}`).join(', ')}`);
}

/** Prepare a layer once, when the reader first looks at it. */
function openLayer(layer) {
  const { rows, cols, width, height } = layer, tile = pixelCanvas(rows, cols, width, height);
  tile.canvas.className = 'sk-film-mask';
  return { ...tile, layer, walker: makeWalker(bytesOf(layer.base), bytesOf(layer.gaps), layer.delta_sizes, rows, cols) };
}

function render({ model, el }) {
  const layers = model.get('layers'), colours = model.get('colours'), last = layers[0].delta_sizes.length;
  const lessMotion = matchMedia('(prefers-reduced-motion: reduce)').matches;
  const panel = buildPanel(model, layers, colours, lessMotion), views = new Map();
  const holder = make('div', { class: 'sk-film-holder' });
  const bars = [make('canvas', { role: 'img', class: 'sk-bars' }), make('canvas', { role: 'img', class: 'sk-bars' })];
  const caption = make('p', { class: 'sk-caption', 'aria-live': 'polite' });
  panel.range.max = last;
  mount(el, make('div', { class: 'sk-film' }, panel.bar, caption,
    make('div', { class: 'sk-film-body' }, holder, make('div', { class: 'sk-side' }, panel.legend, ...bars))));

  function draw() {
    const frame = Math.min(model.get('rewiring'), last), index = model.get('layer');
    if (!views.has(index)) views.set(index, openLayer(layers[index]));
    const view = views.get(index), { layer } = view, text = layer.captions[frame];
    const ink = Object.fromEntries(Object.entries(colours).map(([kind, name]) => [kind, rgba(token(holder, name))]));
    const shows = Object.fromEntries(panel.switches.map(one => [one.kind, one.box.checked]));
    paintFrame(view.pixels, view.walker, frame, ink, shows);
    view.show();
    if (holder.firstChild !== view.canvas) holder.replaceChildren(view.canvas);
    drawBars(bars[0], layer.fan_in, frame, 'Outputs by fan-in', token(holder, 'kept'));
    drawBars(bars[1], layer.fan_out, frame, 'Inputs by fan-out', token(holder, 'kept'));
    panel.switches.forEach((one, k) => { one.number.textContent = layer.counts[frame][k].toLocaleString('en'); });
    panel.range.value = frame; panel.picker.value = index; panel.value.textContent = `${frame} of ${last}`;
    panel.range.setAttribute('aria-valuetext', text);
    caption.textContent = text;
    view.canvas.setAttribute('aria-label', text);
    countDrawing(view.canvas);
  }

  const scheduleDraw = oncePerFrame(draw), stopWatching = onTheme(scheduleDraw);
  const show = (name, value) => { model.set(name, value); scheduleDraw(); }; // we do not save, so the kernel gets no message
  let timer = 0;
  function pause() {
    clearInterval(timer); timer = 0;
    panel.play.textContent = 'Play'; caption.setAttribute('aria-live', 'polite');
  }
  function next() {
    const frame = model.get('rewiring');
    if (frame < last) show('rewiring', frame + 1);
    if (frame + 1 >= last) pause();
  }
  function playOrPause() {
    if (timer) return pause();
    if (model.get('rewiring') >= last) show('rewiring', 0);
    panel.play.textContent = 'Pause'; caption.setAttribute('aria-live', 'off'); // because five sentences a second help nobody
    timer = setInterval(next, lessMotion ? 1000 : 200);
  }
  panel.play.addEventListener('click', playOrPause);
  panel.range.addEventListener('input', () => show('rewiring', Number(panel.range.value)));
  panel.picker.addEventListener('change', () => show('layer', Number(panel.picker.value)));
  for (const one of panel.switches) one.box.addEventListener('change', scheduleDraw);
  for (const name of ['rewiring', 'layer']) model.on(`change:${name}`, scheduleDraw);
  scheduleDraw();
  return () => { pause(); stopWatching(); };
}
export default { render };
