// A card says one thing: how an answer stands, with hints that open one after the other, or what was measured.

const MARKS = { right: '✓', wrong: '×', open: '', best: '★', told: '' };
const ORDINALS = ['Give me a hint', 'Another hint', 'The last hint'];

/** Return what the button of the next hint says, or an empty text after the last. */
export function hintLabel(opened, total) {
  if (opened >= total) return '';
  return total > 1 && opened === total - 1 ? ORDINALS[2] : ORDINALS[Math.min(opened, 1)];
}

function render({ model, el }) {
  const state = model.get('state'), hints = model.get('hints');
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
  const mark = make('span', { class: `sk-mark sk-mark-${state}`, 'aria-hidden': 'true' }, MARKS[state] ?? '');
  const text = make('div', {}, make('p', { class: 'sk-figtitle' }, model.get('title')),
    make('p', { class: 'sk-card-text' }, model.get('text')), list, button);
  mount(el, make('section', { class: 'sk-stage sk-card', role: 'group', 'aria-label': model.get('title') }, mark, text));
  countDrawing(el.firstChild);
}
export default { render };
