// The mask explorer has every position's rank, so a drag needs no kernel: it touches what lies between two counts.

const SPARSITIES = [0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9];
const HEAD = ['Layer', 'Shape', 'Connections', 'Density', 'Min fan-in', 'Dead outputs', 'Dead inputs'];

/** Hold the strongest positions of a layer. `moveTo` another count returns the positions that came or went. */
export function makeKept(ranks, { rows, cols, inputs }) {
  const order = new Uint32Array(ranks.length), isKept = new Uint8Array(ranks.length), kernel = cols / inputs;
  const fanIn = new Int32Array(rows), readers = new Int32Array(inputs), none = array => array.reduce((sum, one) => sum + (one === 0), 0);
  for (let at = 0; at < ranks.length; at++) order[ranks[at]] = at;
  let count = 0;
  return {
    isKept, readers,
    moveTo(next) {
      const moved = order.subarray(Math.min(count, next), Math.max(count, next)), gain = next > count ? 1 : -1;
      for (const at of moved) {
        const row = (at / cols) | 0, col = at - row * cols;
        isKept[at] ^= 1; fanIn[row] += gain; readers[kernel === 1 ? col : (col / kernel) | 0] += gain;
      }
      count = next;
      return moved;
    },
    facts: () => ({ count, least: fanIn.reduce((a, b) => Math.min(a, b)), deadOutputs: none(fanIn), deadInputs: none(readers) }),
  };
}

/** Return the ranks of all layers, which a page has as the number of the stop at which each position goes. */
export function readRanks({ bytes, stops }, layers) {
  if (!stops) return integers(bytesOf(bytes));
  const levels = new Uint16Array(bytesOf(stops).slice().buffer), ranks = new Int32Array(levels.length);
  let from = 0;
  for (const { rows, cols } of layers) {
    const mine = levels.subarray(from, from + rows * cols), next = new Int32Array(mine.reduce((a, b) => Math.max(a, b), 0) + 2);
    for (const level of mine) next[level + 1]++;
    for (let level = 1; level < next.length; level++) next[level] += next[level - 1];
    mine.forEach((level, at) => { ranks[from + at] = next[level]++; });
    from += rows * cols;
  }
  return ranks;
}

/** Return each layer's count at a stop of the slider. */
export function countsAt(counts, numStops, numLayers, allocation, stop) {
  const from = (allocation * numStops + stop) * numLayers;
  return [...counts.subarray(from, from + numLayers)];
}

/** Say in a sentence what the network still is, with its number. */
export function titleOf(count, size, accuracy, dead) {
  const left = `${grouped(count)} of ${grouped(size)} connections`;
  if (accuracy !== null) return `${left} classify ${percent(accuracy)} correctly`;
  return dead ? `${left} are left, and ${dead.count} of ${dead.of} outputs of ${dead.name} read nothing` : `${left} are left`;
}

const sparsityText = density => `${+(100 * (1 - density)).toPrecision(density < 0.01 ? 4 : 3)} %`;
const isSame = (one, other) => one.density === other.density && one.allocation === other.allocation && one.score === other.score;

function render({ model, el }) {
  const layers = model.get('layers'), scores = model.get('ranks').map(({ name }) => name), allocations = model.get('allocations');
  const size = layers.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  const byScore = {};
  let choice = model.get('choice'), kept = null, ink = '', field = null, timer = null, isGone = false, hasMoved = false;

  const title = make('h3', { class: 'sk-title', role: 'status' }), line = make('p', { class: 'sk-soft sk-num' });
  const dial = stopsChart('Sparsity', 200, at => choose({ density: model.get('densities')[at] }));
  const [scoreGroup, showScore] = radioGroup('Score', scores, at => choose({ score: scores[at] }));
  const [allocationGroup, showAllocation] = radioGroup('Allocation', allocations, at => choose({ allocation: allocations[at] }));
  const buttons = model.get('presets').map(({ text, ...settings }) => {
    const button = make('button', { type: 'button' }, text);
    button.addEventListener('click', () => choose(settings));
    return button;
  });
  const tiles = layerTiles(layers), map = inputMap(model.get('image')), table = make('table', { class: 'sk-table' });
  const stage = make('section', { class: 'sk-stage sk-explorer', 'aria-label': 'Which connections to keep' },
    make('div', { class: 'sk-head' }, title, copyButtonOf(model, () => ({ choice }))), line, dial.element,
    make('div', { class: 'sk-dials' }, make('span', { class: 'sk-label' }, 'Score'), scoreGroup, make('span', { class: 'sk-label' }, 'Allocation'), allocationGroup,
      ...buttons),
    make('div', { class: 'sk-tiles' }, ...(map ? [map.figure] : []), ...tiles.map(tile => tile.figure)),
    make('div', { class: 'sk-scroll', tabindex: '0', role: 'region', 'aria-label': 'Layers' }, table));
  mount(el, stage);

  /** Show another choice at once, and tell the kernel a little later, which measures it meanwhile. */
  function choose(changes) {
    choice = { ...choice, ...changes };
    hasMoved = true;
    const known = (model.get('known') ?? []).find(one => isSame(one, choice)), measured = model.get('measured');
    if (known && !measured.some(one => isSame(one, choice))) model.set('measured', [...measured, known]); // the trail is the reader's
    schedule();
    timer ??= setTimeout(() => { timer = null; model.set('choice', choice); model.save_changes(); }, 80);
  }
  const keptBy = score => byScore[score] ??= cut(readRanks(model.get('ranks')[scores.indexOf(score)], layers), layers)
    .map((ranks, index) => makeKept(ranks, layers[index])); // ranked when it is first shown
  const stopOf = () => model.get('densities').indexOf(choice.density);
  const curve = score => model.get('measured').filter(one => one.score === score && one.allocation === choice.allocation)
    .map(one => [one.density, one.accuracy]).sort((a, b) => b[0] - a[0]);
  const layerCurve = index => model.get('densities').map((density, stop) =>
    [density, countsAt(all, model.get('densities').length, layers.length, allocations.indexOf(choice.allocation), stop)[index] / (layers[index].rows * layers[index].cols)]);
  let all = integers(bytesOf(model.get('counts')));

  function drawDial(accuracy) {
    const densities = model.get('densities'), measures = model.get('measures');
    const lines = measures ? scores.map(name => ({ name, points: curve(name), chosen: name === choice.score, dots: true, dash: null }))
      : layers.map(({ name }, index) => ({ name, points: layerCurve(index), chosen: false, dash: ['', '6 3', '2 2'][index % 3] }));
    const known = curve(choice.score).reduce((best, one) => (Math.abs(Math.log(one[0] / choice.density)) < Math.abs(Math.log((best ?? [1e-9])[0] / choice.density)) ? one : best), null);
    const waiting = measures && accuracy === null;
    dial.draw({
      stops: densities, at: stopOf(), value: waiting ? null : measures ? accuracy : choice.density, guess: known?.[1], lines,
      label: (waiting ? (isGone ? 'no kernel' : 'working') : measures ? percent(accuracy) : sparsityText(choice.density)) + (hasMoved ? '' : '  ↔ drag'),
      said: `${sparsityText(choice.density)} sparsity, ${waiting ? 'working' : measures ? `${percent(accuracy)} correct` : ''}`,
      x: { ends: [1, densities.at(-1)], log: true, name: 'sparsity', ticks: SPARSITIES.map(value => [1 - value / 100, `${value} %`]) },
      y: { ends: [0, 1], name: measures ? 'test accuracy' : 'density of a layer', ticks: [0, 0.5, 1].map(value => [value, `${100 * value} %`]) },
    });
  }
  function drawMap(fieldRow) {
    if (!map) return;
    const readers = fieldRow === null ? kept[0].readers : readersOf(kept[0].isKept, layers[0], fieldRow), most = Math.max(1, ...readers);
    paintHeat(map, readers, most, stage);
    const unit = fieldRow === null ? `${layers[0].rows} units of ${layers[0].name}` : `unit ${fieldRow} of ${layers[0].name}`;
    map.note.textContent = fieldRow === null ? `most: ${most} of ${unit} read a pixel` : `${unit} reads ${readers.reduce((a, b) => a + b, 0)} pixels`;
    map.canvas.setAttribute('aria-label', `Inputs: ${map.note.textContent}`);
    map.readers = readers;
  }
  function draw() {
    const stop = stopOf();
    if (stop < 0) return; // the densities of this choice are still on their way
    const counts = countsAt(all, model.get('densities').length, layers.length, allocations.indexOf(choice.allocation), stop);
    const shown = kept, colours = inks(stage, ['surface', 'ink']), isOther = ink !== (ink = String(colours));
    kept = keptBy(choice.score);
    const moved = kept.map((layer, index) => layer.moveTo(counts[index])), facts = kept.map(layer => layer.facts());
    tiles.forEach((tile, index) => {
      if (isOther || shown !== kept) paintKinds(tile, kept[index].isKept, colours); else paintMoved(tile, moved[index], kept[index].isKept, colours);
      tile.note.textContent = `${grouped(facts[index].count)} connections (${shareText(facts[index].count / (tile.rows * tile.cols))})`;
      tile.canvas.setAttribute('aria-label', `${tile.name}: ${tile.note.textContent}`);
    });
    drawMap(field);
    const count = facts.reduce((sum, one) => sum + one.count, 0), last = facts.at(-1);
    const accuracy = model.get('measured').find(one => isSame(one, choice))?.accuracy ?? null;
    const dead = last.deadOutputs ? { count: last.deadOutputs, of: layers.at(-1).rows, name: layers.at(-1).name } : null;
    title.textContent = titleOf(count, size, accuracy, dead);
    line.textContent = model.get('problem') || (isGone ? 'The kernel was restarted. The masks still follow, but accuracy needs the cell to run again.' :
      `${sparsityText(choice.density)} sparsity, ${choice.allocation}, ${choice.score}. ` + (dead ? `${dead.count} of ${dead.of} outputs of ${dead.name} read nothing.` : `Every output of ${layers.at(-1).name} reads something.`));
    showScore(scores.indexOf(choice.score));
    showAllocation(allocations.indexOf(choice.allocation));
    const row = (name, text, total, one) => [name, text, grouped(one.count), shareText(one.count / total), String(one.least), String(one.deadOutputs), String(one.deadInputs)];
    const sum = key => facts.reduce((a, one) => a + one[key], 0);
    fillTable(table, HEAD, [...layers.map((layer, index) => row(layer.name, layer.text, layer.rows * layer.cols, facts[index])),
      row('network', '', size, { count, least: Math.min(...facts.map(one => one.least)), deadOutputs: sum('deadOutputs'), deadInputs: sum('deadInputs') })]);
    drawDial(accuracy);
    countDrawing(stage);
  }
  const schedule = oncePerFrame(draw), stopTheme = onTheme(schedule);
  watchPointer(tiles[0].canvas, layers[0], (row, col) => { field = row; drawMap(field); }, () => { field = null; drawMap(null); });
  if (map) watchPointer(map.canvas, { rows: map.rows, cols: map.cols }, (row, col) => {
    map.note.textContent = `row ${row + 1}, column ${col + 1}: ${map.readers[row * map.cols + col]} of ${layers[0].rows} units read it`;
  }, () => drawMap(null));
  model.on('change:choice', () => { if (timer === null) { choice = model.get('choice'); schedule(); } });
  for (const name of ['measured', 'problem', 'densities']) model.on(`change:${name}`, schedule);
  model.on('change:counts', () => { all = integers(bytesOf(model.get('counts'))); schedule(); });
  whenKernelGoes(model, () => { isGone = true; schedule(); });
  requestAnimationFrame(draw); // not at once, because the stage must be on the page before it knows the theme's colours
  return () => { stopTheme(); dial.stop(); };
}

export default { render };
