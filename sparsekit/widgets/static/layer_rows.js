// Layers as tiles and as rows of a table: what the explorers of masks count and draw in the browser.

/** Count a layer's connections, its smallest fan-in and its units without any. `isKept` has 1 where a connection is. */
export function countLayer(isKept, { rows, cols, inputs }) {
  const fanIn = new Int32Array(rows), isRead = new Uint8Array(inputs), kernel = cols / inputs;
  for (let row = 0, at = 0; row < rows; row++) {
    let here = 0;
    for (let col = 0; col < cols; col++, at++) if (isKept[at]) { here++; isRead[kernel === 1 ? col : (col / kernel) | 0] = 1; }
    fanIn[row] = here;
  }
  const none = array => array.reduce((sum, one) => sum + (one === 0), 0);
  return { count: fanIn.reduce((a, b) => a + b, 0), least: fanIn.reduce((a, b) => Math.min(a, b)), deadOutputs: none(fanIn), deadInputs: none(isRead) };
}

/** Count for each input how many outputs read it, all of them or those of one row. */
export function readersOf(isKept, { rows, cols, inputs }, row = null) {
  const readers = new Int32Array(inputs), kernel = cols / inputs;
  for (let one = row ?? 0, at = one * cols; one < (row === null ? rows : row + 1); one++) {
    for (let col = 0; col < cols; col++, at++) if (isKept[at]) readers[kernel === 1 ? col : (col / kernel) | 0]++;
  }
  return readers;
}

/** Write a share so that it is never rounded to nothing or to everything. */
export const shareText = value => {
  if (value === 0 || value === 1) return `${100 * value} %`;
  return value < 0.01 || value > 0.99 ? percent(value, 2) : percent(value, 1);
};

/** Colours of a canvas by token, where index 0 is a position without a connection. */
export const inks = (element, names) => Uint32Array.from(names.map(name => rgba(token(element, name) || '#888888')));

/** Return a colour between two, as a canvas stores it. */
export function blend(from, to, part = 0.5) {
  const [low, high] = [from, to].map(colour => parseInt((colour || '#888888').slice(1), 16));
  const mix = shift => Math.round(((low >> shift) & 255) * (1 - part) + ((high >> shift) & 255) * part);
  return ((255 << 24) | (mix(0) << 16) | (mix(8) << 8) | mix(16)) >>> 0;
}

/** Cut one array into the layers that lie in it one after the other. */
export function cut(array, layers) {
  let from = 0;
  return layers.map(({ rows, cols }) => array.subarray(from, (from += rows * cols)));
}

/** Build one figure per layer, with a canvas of one pixel per position. */
export function layerTiles(layers) {
  return layers.map(layer => {
    const tile = pixelCanvas(layer.rows, layer.cols, layer.width, layer.height);
    tile.canvas.className = 'sk-mask sk-layer';
    tile.canvas.dataset.layer = layer.name;
    tile.canvas.style.height = 'auto';
    tile.canvas.style.aspectRatio = `${layer.width} / ${layer.height}`;
    tile.note = make('span', { class: 'sk-soft sk-num' });
    const figure = make('figure', { class: 'sk-tile', style: `flex-basis:${Math.min(layer.width, 420)}px;max-width:${layer.width}px` }, make('figcaption', {}, make('strong', {}, layer.name), tile.note), tile.canvas);
    return { ...tile, ...layer, figure };
  });
}

/** Paint a layer from the kind of each position. */
export function paintKinds(tile, kinds, colours) {
  for (let at = 0; at < kinds.length; at++) tile.pixels[at] = colours[kinds[at]];
  tile.show();
}

/** Paint only the positions of a layer whose kind has changed. */
export function paintMoved(tile, moved, kinds, colours) {
  for (const at of moved) tile.pixels[at] = colours[kinds[at]];
  if (moved.length) tile.show();
}

/** Fill a table with a row of texts per layer, the last of which is the sum. */
export function fillTable(table, head, rows) {
  const line = cells => make('tr', {}, ...cells.map((cell, index) => (index ? make('td', {}, cell) : make('th', { scope: 'row' }, cell))));
  const body = make('tbody', {}, ...rows.map(line));
  if (body.lastElementChild) body.lastElementChild.className = 'sk-total';
  table.replaceChildren(make('thead', {}, make('tr', {}, ...head.map(text => make('th', { scope: 'col' }, text)))), body);
}
