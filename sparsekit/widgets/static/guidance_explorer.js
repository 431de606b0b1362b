// The guidance explorer holds every guide's draws in turn, and shows as many of them as the reader asks for.

const NEVER = 0x7fffffff;

/** Return for each position the number of draws after which it was drawn at least once. */
export function firstDraws(draws, size) {
  const first = new Int32Array(size).fill(NEVER);
  draws.forEach((position, turn) => { if (first[position] === NEVER) first[position] = turn + 1; });
  return first;
}

/** Return the share of the best positions that so many draws meet. */
export const recallAfter = (first, best, numDraws) => best.reduce((sum, position) => sum + (first[position] <= numDraws), 0) / (best.length || 1);

/** Return the kind of each position: 0 is empty, 1 a connection and 2 a candidate. */
export function candidateKinds(first, taken, numDraws) {
  const kinds = Uint8Array.from(first, turn => (turn <= numDraws ? 2 : 0));
  for (const position of taken) kinds[position] = 1;
  return kinds;
}

const AREA = { left: 34, top: 54, width: 560, height: 320, side: 52, below: 24 };

function render({ model, el }) {
  const layers = model.get('layers').map(layer => ({
    ...layer, taken: integers(bytesOf(layer.taken)), best: integers(bytesOf(layer.best)),
    guides: layer.guides.map(guide => ({ ...guide, first: firstDraws(integers(bytesOf(guide.draws)), layer.rows * layer.cols) })),
  }));
  const subsets = model.get('subsets'), layerNames = layers.map(({ name }) => name), guideNames = layers[0].guides.map(({ name }) => name);
  let choice = model.get('choice'), timer = null;

  const title = make('h3', { class: 'sk-title', role: 'status' }), line = make('p', { class: 'sk-soft sk-num' });
  const dial = stopsChart('Draws per connection', 190, at => choose({ subset: subsets[at] }));
  const [layerGroup, showLayer] = radioGroup('Layer', layerNames, at => choose({ layer: layerNames[at] }));
  const [guideGroup, showGuide] = radioGroup('Guide', guideNames, at => choose({ guide: guideNames[at] }));
  const canvas = make('canvas', { class: 'sk-guidance', role: 'img' }), map = inputImage();
  const key = make('p', { class: 'sk-soft sk-num sk-key' });
  const stage = make('section', { class: 'sk-stage sk-explorer', 'aria-label': 'How candidates are drawn' },
    make('div', { class: 'sk-head' }, title, copyButtonOf(model, () => ({ choice }))), line,
    make('div', { class: 'sk-dials' }, make('span', { class: 'sk-label' }, 'Layer'), layerGroup, make('span', { class: 'sk-label' }, 'Guide'), guideGroup),
    dial.element, make('div', { class: 'sk-tiles' }, make('figure', { class: 'sk-tile' }, key, canvas), map.figure));
  mount(el, stage);

  function choose(changes) {
    choice = { ...choice, ...changes };
    schedule();
    timer ??= setTimeout(() => { timer = null; model.set('choice', choice); model.save_changes(); }, 80);
  }
  function drawDial(layer, recall) {
    const lines = layer.guides.map(guide => ({
      name: guide.name, chosen: guide.name === choice.guide, dash: null,
      points: [[0, 0], ...subsets.map((subset, at) => [subset, recallAfter(guide.first, layer.best, layer.num_draws[at])])],
    }));
    const top = Math.min(1, Math.ceil(10 * Math.max(...lines.flatMap(({ points }) => points.map(([, y]) => y)))) / 10);
    dial.draw({
      stops: subsets, at: subsets.indexOf(choice.subset), value: recall, lines, label: `${percent(recall, 0)} of them drawn`,
      said: `${choice.subset} draws per connection, recall ${percent(recall, 0)}`,
      x: { ends: [0, subsets.at(-1)], name: 'draws', ticks: [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4].map(value => [value, String(value)]) },
      y: { ends: [0, Math.max(0.1, top)], name: "share of RigL's choice", ticks: [0, top / 2, top].map(value => [value, percent(value, 0)]) },
    });
  }
  function draw() {
    const layer = layers[layerNames.indexOf(choice.layer)], guide = layer.guides[guideNames.indexOf(choice.guide)];
    const numDraws = layer.num_draws[subsets.indexOf(choice.subset)], kinds = candidateKinds(guide.first, layer.taken, numDraws);
    const candidates = kinds.reduce((sum, kind) => sum + (kind === 2), 0), recall = recallAfter(guide.first, layer.best, numDraws);
    const hits = Math.round(recall * layer.best.length), ratio = candidates / layer.taken.length;
    title.textContent = `${grouped(numDraws)} draws in ${layer.name} meet ${hits} of the ${layer.best.length} largest gradients`;
    line.textContent = `${choice.guide}, ${choice.subset} ${choice.subset === 1 ? 'draw' : 'draws'} per connection: ${grouped(candidates)} different candidates, |S| / |A| = ${ratio.toFixed(2)}, recall ${percent(recall, 0)}`;
    key.textContent = `${layer.name}, outputs down, inputs across. Pale: ${grouped(layer.taken.length)} connections. Grey: ${grouped(candidates)} candidates. Rings: RigL's choice, filled where it was drawn (${hits}). Bars: the guide.`;
    drawLayer(canvas, stage, layer, guide, kinds, numDraws);
    canvas.setAttribute('aria-label', `${title.textContent}. ${key.textContent}`);
    map.draw(layer === layers[0] ? guide.inputs : [0, 0], stage); // what hidden units read is no image
    showLayer(layerNames.indexOf(choice.layer));
    showGuide(guideNames.indexOf(choice.guide));
    drawDial(layer, recall);
    countDrawing(stage);
  }
  const schedule = oncePerFrame(draw), stopTheme = onTheme(schedule);
  model.on('change:choice', () => { if (timer === null) { choice = model.get('choice'); schedule(); } });
  requestAnimationFrame(draw); // not at once, because the stage must be on the page before it knows the theme's colours
  return () => { stopTheme(); dial.stop(); };
}

/** Draw a layer with its guide as bars on two sides, and a ring at each position where the gradient is largest. */
function drawLayer(canvas, stage, layer, guide, kinds, numDraws) {
  const pen = sharpen(canvas, AREA.left + AREA.width + AREA.side, AREA.top + AREA.height + AREA.below);
  canvas.style.height = 'auto';
  const tile = pixelCanvas(layer.rows, layer.cols, layer.cols, layer.rows);
  paintKinds(tile, kinds, [...inks(stage, ['surface', 'faint']), blend(token(stage, 'soft'), token(stage, 'soft'))]);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(tile.canvas, AREA.left, AREA.top, AREA.width, AREA.height);
  pen.strokeStyle = token(stage, 'line');
  pen.strokeRect(AREA.left, AREA.top, AREA.width, AREA.height);
  const across = AREA.width / layer.cols, down = AREA.height / layer.rows;
  pen.fillStyle = token(stage, 'soft');
  const mostIn = Math.max(...guide.inputs), mostOut = Math.max(...guide.outputs);
  guide.inputs.forEach((value, col) => { const high = (44 * value) / mostIn; pen.fillRect(AREA.left + col * across, AREA.top - 4 - high, Math.max(1, across - 0.5), high); });
  guide.outputs.forEach((value, row) => { pen.fillRect(AREA.left + AREA.width + 4, AREA.top + row * down, (44 * value) / mostOut, Math.max(1, down - 0.5)); });
  pen.font = `12px ${getComputedStyle(stage).fontFamily}`;
  pen.fillText('inputs', AREA.left, AREA.top + AREA.height + 18);
  pen.save(); pen.translate(AREA.left - 10, AREA.top + 46); pen.rotate(-Math.PI / 2); pen.fillText('outputs', 0, 0); pen.restore();
  pen.fillStyle = pen.strokeStyle = token(stage, 'ink');
  pen.lineWidth = 1.4;
  for (const position of layer.best) {
    pen.beginPath();
    pen.arc(AREA.left + ((position % layer.cols) + 0.5) * across, AREA.top + (Math.floor(position / layer.cols) + 0.5) * down, 3.4, 0, 7);
    if (guide.first[position] <= numDraws) pen.fill(); else pen.stroke();
  }
}

/** Make the guide's inputs as an image, which hides where they fill no square. */
function inputImage() {
  const note = make('span', { class: 'sk-soft' }, 'the more ink, the more often drawn'), holder = make('div', {});
  const figure = make('figure', { class: 'sk-tile sk-map' }, make('figcaption', {}, make('strong', {}, 'The guide as an image of the inputs'), note), holder);
  function draw(inputs, stage) {
    const side = Math.round(Math.sqrt(inputs.length));
    figure.hidden = side * side !== inputs.length || side > 40;
    if (figure.hidden) return;
    const zoom = Math.max(1, Math.floor(196 / side)), image = pixelCanvas(side, side, side * zoom, side * zoom), most = Math.max(...inputs);
    image.canvas.classList.add('sk-mask');
    image.canvas.setAttribute('aria-label', 'How often each input is drawn');
    inputs.forEach((value, at) => { image.pixels[at] = blend(token(stage, 'surface'), token(stage, 'ink'), value / most); });
    image.show();
    holder.replaceChildren(image.canvas);
  }
  return { figure, draw };
}
export default { render };
