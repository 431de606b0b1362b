// Scrub or play every rewiring of a run. Everything lies in the browser: the kernel is not asked.

const KINDS = [['born', 'Born'], ['kept', 'Kept'], ['dropped', 'Dropped']];

/** Slider, Play, layer picker, and the switches that are the legend too. */
function buildPanel(layers, colours, still) {
  const play = make('button', { type: 'button', class: 'sk-button sk-main', title: still ? 'One rewiring per second' : 'Five rewirings per second' }, 'Play');
  const range = make('input', { type: 'range', min: 0, step: 1 });
  const value = make('output', { class: 'sk-value' });
  const picker = make('select', {}, ...layers.map(({ name }, place) => make('option', { value: place }, name)));
  const switches = KINDS.map(([kind, text]) => {
    const box = make('input', { type: 'checkbox', checked: true }), swatch = make('span', { class: 'sk-swatch' }), number = make('span', { class: 'sk-count' });
    swatch.style.background = colours[kind];
    return { kind, box, number, label: make('label', {}, box, swatch, make('span', {}, `${text} `), number) };
  });
  const bar = make('div', { class: 'sk-controls sk-row' }, play,
    make('div', { class: 'sk-field sk-is-range' }, ...labelled('Rewiring', range), value),
    make('div', { class: 'sk-field' }, ...labelled('Layer', picker)));
  return { play, range, value, picker, switches, bar, legend: make('div', { class: 'sk-legend', role: 'group', 'aria-label': 'Show' }, ...switches.map(one => one.label)) };
}

/** Bars of now over an outline of the first frame; the axes stay the same throughout the film. */
function drawBars(canvas, { width, units, most }, frame, title, ink) {
  const W = 250, H = 150, left = 36, bottom = H - 34, top = 20;
  const c = lineCanvas(canvas, W, H), text = c.fillStyle;
  const bars = units[frame], wide = (W - left - 6) / bars.length;
  const toY = number => bottom - (bottom - top) * number / most;
  c.fillStyle = ink;
  bars.forEach((number, k) => c.fillRect(left + k * wide + 0.5, toY(number), Math.max(1, wide - 1), bottom - toY(number)));
  c.fillStyle = text; c.lineWidth = 1.2; c.setLineDash([3, 2]); c.beginPath(); c.moveTo(left, bottom);
  units[0].forEach((number, k) => { c.lineTo(left + k * wide, toY(number)); c.lineTo(left + (k + 1) * wide, toY(number)); });
  c.lineTo(W - 6, bottom); c.stroke(); c.setLineDash([]);
  c.textAlign = 'left'; c.fillText(title, left, 12);
  c.textAlign = 'right'; c.textBaseline = 'middle';
  for (const tick of ticks(0, most, 3)) if (Number.isInteger(tick)) c.fillText(String(tick), left - 5, toY(tick));
  c.textAlign = 'center'; c.textBaseline = 'top';
  for (const tick of ticks(0, (bars.length - 1) * width, 4)) {
    if (Number.isInteger(tick)) c.fillText(String(tick), left + (Math.floor(tick / width) + 0.5) * wide, bottom + 4);
  }
  c.fillText('connections', (left + W) / 2, bottom + 18);
  canvas.setAttribute('aria-label', `${title}: ${bars.map((number, k) => [number, k]).filter(([number]) => number)
    .map(([number, k]) => `${number} with ${k * width}${width > 1 ? ` to ${(k + 1) * width - 1}` : ''}`).join(', ')}`);
}

/** What is made once per layer, when it is first looked at. */
function openLayer(layer) {
  const { rows, cols, width, height } = layer, tile = pixelCanvas(rows, cols, width, height);
  tile.canvas.className = 'sk-film-mask';
  return { ...tile, layer, walker: makeWalker(bytesOf(layer.base), bytesOf(layer.gaps), layer.flips, rows, cols) };
}

function render({ model, el }) {
  const layers = model.get('layers'), colours = model.get('colours'), last = layers[0].flips.length;
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  const panel = buildPanel(layers, colours, still), opened = new Map();
  const ink = Object.fromEntries(Object.entries(colours).map(([kind, hex]) => [kind, rgba(hex)]));
  const stage = make('div', { class: 'sk-stage' });
  const bars = [make('canvas', { role: 'img', class: 'sk-bars' }), make('canvas', { role: 'img', class: 'sk-bars' })];
  const caption = make('p', { class: 'sk-caption', 'aria-live': 'polite' });
  panel.range.max = last;
  mount(el, make('div', { class: 'sk-film' }, panel.bar, caption,
    make('div', { class: 'sk-film-body' }, stage, make('div', { class: 'sk-side' }, panel.legend, ...bars))));

  function draw() {
    const frame = Math.min(model.get('rewiring'), last), place = model.get('layer');
    if (!opened.has(place)) opened.set(place, openLayer(layers[place]));
    const shot = opened.get(place), { layer } = shot, text = layer.captions[frame];
    const shows = Object.fromEntries(panel.switches.map(one => [one.kind, one.box.checked]));
    paintFrame(shot.pixels, shot.walker, frame, ink, shows);
    shot.show();
    if (stage.firstChild !== shot.canvas) stage.replaceChildren(shot.canvas);
    drawBars(bars[0], layer.fan_in, frame, 'Outputs by fan-in', colours.kept);
    drawBars(bars[1], layer.fan_out, frame, 'Inputs by fan-out', colours.kept);
    panel.switches.forEach((one, k) => { one.number.textContent = layer.counts[frame][k].toLocaleString('en'); });
    panel.range.value = frame; panel.picker.value = place; panel.value.textContent = `${frame} of ${last}`;
    panel.range.setAttribute('aria-valuetext', text);
    caption.textContent = text;
    shot.canvas.setAttribute('aria-label', text);
    drawn(shot.canvas);
  }

  const later = oncePerFrame(draw), forget = onTheme(later);
  const show = (name, value) => { model.set(name, value); later(); }; // set, not saved: no message to the kernel
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
    panel.play.textContent = 'Pause'; caption.setAttribute('aria-live', 'off'); // five sentences a second help nobody
    timer = setInterval(next, still ? 1000 : 200);
  }
  panel.play.addEventListener('click', playOrPause);
  panel.range.addEventListener('input', () => show('rewiring', Number(panel.range.value)));
  panel.picker.addEventListener('change', () => show('layer', Number(panel.picker.value)));
  for (const one of panel.switches) one.box.addEventListener('change', later);
  for (const name of ['rewiring', 'layer']) model.on(`change:${name}`, later);
  later();
  return () => { pause(); forget(); };
}
export default { render };
