// Every layer's mask is a labelled canvas, with one pixel per position of a connection.

/** Build one figure per layer. Sizes and names come from Python. */
function buildTiles(list, layers) {
  const tiles = layers.map(({ name, rows, cols, width, height }) => {
    const tile = pixelCanvas(rows, cols, width, height);
    tile.canvas.className = 'sk-mask';
    tile.canvas.dataset.layer = name;
    tile.note = make('span', { class: 'sk-faint' });
    tile.figure = make('figure', { class: 'sk-tile' }, tile.canvas,
      make('figcaption', {}, make('strong', {}, name), tile.note));
    tile.figure.style.minWidth = `${width}px`;
    return Object.assign(tile, { name, rows, cols, bytes: rows * Math.ceil(cols / 8) });
  });
  list.replaceChildren(...tiles.map(tile => tile.figure));
  return tiles;
}

/** Paint a layer that was rewired: empty, kept, born and dropped positions in this order of colours. */
export function paintChange(pixels, now, before, rows, cols, colours) {
  const born = new Uint32Array(rows * cols), old = new Uint32Array(rows * cols), table = byteTable(0, 1);
  paintRows(born, now, rows, cols, table);
  paintRows(old, before, rows, cols, table);
  for (let at = 0; at < pixels.length; at++) pixels[at] = colours[born[at] ? (old[at] ? 1 : 2) : old[at] ? 3 : 0];
}

/** Draw the rows of every layer, which lie one after the other. */
function paintTiles(tiles, bits, before, captions, [paper, kept, ink, dropped]) {
  let from = 0;
  tiles.forEach((tile, index) => {
    const now = bits.subarray(from, from + tile.bytes);
    if (before.length) paintChange(tile.pixels, now, before.subarray(from, from + tile.bytes), tile.rows, tile.cols, [paper, kept, ink, dropped]);
    else paintRows(tile.pixels, now, tile.rows, tile.cols, byteTable(paper, ink));
    tile.show();
    from += tile.bytes;
    tile.note.textContent = captions[index] ?? '';
    tile.canvas.setAttribute('aria-label', `${tile.name}: ${captions[index] ?? ''}`);
  });
}

function render({ model, el }) {
  const list = make('div', { class: 'sk-tiles', role: 'group' }), key = make('p', { class: 'sk-soft', hidden: true });
  const swatch = kind => make('span', { class: `sk-swatch sk-${kind}` });
  key.append(swatch('born'), ' born by the last rewiring ', swatch('kept'), ' kept ', swatch('gone'), ' dropped');
  mount(el, list, key);
  let tiles = [], built = null;

  function draw() {
    const layers = model.get('layers'), bits = bytesOf(model.get('bits')), before = bytesOf(model.get('before'));
    if (layers !== built) { tiles = buildTiles(list, layers); built = layers; }
    const needed = tiles.reduce((sum, tile) => sum + tile.bytes, 0);
    if (bits.length !== needed || ![0, needed].includes(before.length)) return; // this is half of a message, so we wait for the rest
    const colours = ['surface', 'kept', 'ink', 'line'].map(name => rgba(token(list, name) || '#888888'));
    paintTiles(tiles, bits, before, model.get('captions'), colours);
    key.hidden = !before.length;
    list.setAttribute('aria-label', model.get('alt'));
    countDrawing(list);
  }

  const scheduleDraw = oncePerFrame(draw), stopTheme = onTheme(scheduleDraw);
  for (const name of ['layers', 'bits', 'before', 'captions', 'alt']) model.on(`change:${name}`, scheduleDraw);
  scheduleDraw(); // not at once, because the canvas must be on the page before it knows the theme's colours
  return stopTheme;
}
export default { render };
