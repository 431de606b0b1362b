// A question with options. The first choice stays, and what is right is told only after it.

/** Say what a row of the question is: the reader's choice, the right answer, both or neither. */
export function roleOf(index, first, right) {
  if (first < 0) return '';
  if (index === first && index === right) return 'your guess, and so it is';
  if (index === first) return 'your guess';
  return index === right ? 'so it is' : '';
}

function render({ model, el }) {
  const options = model.get('options');
  const rows = options.map((text, index) => make('button', { type: 'button', role: 'radio', 'aria-checked': 'false', class: 'sk-option' },
    make('span', { class: 'sk-dot', 'aria-hidden': 'true' }), make('span', { class: 'sk-option-text' }, text), make('span', { class: 'sk-tag' })));
  const group = make('div', { role: 'radiogroup', 'aria-label': model.get('question'), class: 'sk-options' }, ...rows);
  const note = make('p', { class: 'sk-soft' }), reveal = make('p', { class: 'sk-reveal', role: 'status' });
  mount(el, make('section', { class: 'sk-stage sk-predict' }, make('p', { class: 'sk-eyebrow' }, 'Predict'),
    make('h3', { class: 'sk-title' }, model.get('question')), group, note, reveal));

  function choose(index) {
    if (model.get('first') >= 0) return;
    model.set('first', index);
    model.save_changes();
    const { right, reveals } = model.get('told') ?? {}; // only where no kernel answers
    if (reveals) { model.set('right', right); model.set('reveal', reveals[index]); }
    draw();
  }
  function draw() {
    const first = model.get('first'), right = model.get('right');
    rows.forEach((row, index) => {
      const is = roleOf(index, first, right);
      row.setAttribute('aria-checked', String(index === first));
      row.setAttribute('aria-disabled', String(first >= 0));
      row.tabIndex = index === Math.max(first, 0) ? 0 : -1;
      row.dataset.is = is === '' ? '' : index === right ? 'right' : 'guess';
      row.lastChild.textContent = is;
    });
    note.textContent = first < 0 ? 'Your first choice stays, so take your time. Nobody else sees it.'
      : model.get('reveal') ? '' : 'Your guess is kept. The notebook measures it below.';
    note.hidden = !note.textContent;
    reveal.textContent = model.get('reveal');
    reveal.hidden = !reveal.textContent;
    countDrawing(group);
  }
  rows.forEach((row, index) => row.addEventListener('click', () => choose(index)));
  group.addEventListener('keydown', event => {
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault(); // arrows move, and only Enter, Space or a click choose, because a choice stays
    const to = (rows.indexOf(document.activeElement) + by + rows.length) % rows.length;
    rows.forEach((row, index) => { row.tabIndex = index === to ? 0 : -1; });
    rows[to].focus();
  });
  const scheduleDraw = oncePerFrame(draw);
  for (const name of ['first', 'right', 'reveal']) model.on(`change:${name}`, scheduleDraw);
  draw();
}
export default { render };
