// In a table of text cells the first column names the row, and the last row may be a sum.

function buildRows(head, rows, total) {
  const line = cells => make('tr', {}, ...cells.map((cell, index) =>
    index ? make('td', {}, cell) : make('th', { scope: 'row' }, cell)));
  const body = rows.map(line);
  if (total && body.length) body[body.length - 1].className = 'sk-total';
  return [
    make('thead', {}, make('tr', {}, ...head.map(name => make('th', { scope: 'col' }, name)))),
    make('tbody', {}, ...body),
  ];
}

function render({ model, el }) {
  const caption = make('caption', { 'aria-live': 'polite' }), table = make('table', { class: 'sk-table' }, caption);
  mount(el, make('div', { class: 'sk-scroll', tabindex: '0', role: 'region', 'aria-label': 'Table' }, table));
  function draw() {
    caption.textContent = model.get('caption'); // we keep the element, or a screen reader would not notice
    table.replaceChildren(caption, ...buildRows(model.get('head'), model.get('rows'), model.get('total')));
    countDrawing(table);
  }
  const scheduleDraw = oncePerFrame(draw);
  for (const name of ['caption', 'head', 'rows', 'total']) model.on(`change:${name}`, scheduleDraw);
  draw();
}
export default { render };
