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

/** Draw the rows of every layer, which lie one after the other. */
function paintTiles(tiles, bits, captions, table) {
  let from = 0;
  tiles.forEach((tile, index) => {
    paintRows(tile.pixels, bits.subarray(from, from + tile.bytes), tile.rows, tile.cols, table);
    tile.show();
    from += tile.bytes;
    tile.note.textContent = captions[index] ?? '';
    tile.canvas.setAttribute('aria-label', `${tile.name}: ${captions[index] ?? ''}`);
  });
}

function render({ model, el }) {
  const list = make('div', { class: 'sk-tiles', role: 'group' });
  mount(el, list);
  let tiles = [], built = null;

  function draw() {
    const layers = model.get('layers'), bits = bytesOf(model.get('bits'));
    if (layers !== built) { tiles = buildTiles(list, layers); built = layers; }
    if (bits.length !== tiles.reduce((sum, tile) => sum + tile.bytes, 0)) return; // this is half of a message, so we wait for the rest
    paintTiles(tiles, bits, model.get('captions'), byteTable(...model.get('colours').map(rgba)));
    list.setAttribute('aria-label', model.get('alt'));
    countDrawing(list);
  }

  const scheduleDraw = oncePerFrame(draw);
  for (const name of ['layers', 'bits', 'captions', 'colours', 'alt']) model.on(`change:${name}`, scheduleDraw);
  draw();
}
export default { render };
