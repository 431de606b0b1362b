// A card says one thing: how an answer stands, with hints that open one after the other, or what was measured.

const MARKS = { right: '✓', wrong: '×', open: '', best: '★', told: '' };
const ORDINALS = ['Give me a hint', 'Another hint', 'The last hint'];

/** Return what the button of the next hint says, or an empty text after the last. */
export function hintLabel(opened, total) {
  if (opened >= total) return '';
  return total > 1 && opened === total - 1 ? ORDINALS[2] : ORDINALS[Math.min(opened, 1)];
}

function render({ model, el }) {
  const hints = model.get('hints'), replies = model.get('replies') ?? [];
  const list = make('ol', { class: 'sk-hints', 'aria-live': 'polite' });
  const button = make('button', { type: 'button' });
  let opened = 0;
  function label() {
    button.textContent = hintLabel(opened, hints.length);
    button.hidden = opened >= hints.length;
  }
  button.addEventListener('click', () => {
    list.append(make('li', {}, hints[opened++]));
    label();
  });
  label();
  const mark = make('span', { 'aria-hidden': 'true' }), title = make('p', { class: 'sk-figtitle' });
  const isExercise = isRecorded(model) && model.get('state') === 'open' && !replies.length;
  const text = make('p', { class: 'sk-card-text' }, `${model.get('text')}${isExercise ? ' Open this notebook in JupyterLab to answer.' : ''}`.trim());
  const card = make('section', { class: 'sk-stage sk-card', role: 'group' }, mark, make('div', {}, title, text, list, button));
  mount(el, card);
  function draw() {
    const [words, state] = replies[model.get('guess')] ?? [model.get('title'), model.get('state')];
    mark.className = `sk-mark sk-mark-${state}`;
    mark.textContent = MARKS[state] ?? '';
    title.textContent = words;
    card.setAttribute('aria-label', words);
    countDrawing(card);
  }
  model.on('change:guess', draw);
  draw();
}
export default { render };
