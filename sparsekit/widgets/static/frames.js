// One drawing for each setting of some controls is here already, so a slider needs no kernel.

/** Write the values of controls in the order of their names, as Python does. */
export const keyOfValues = values => JSON.stringify(Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1)));

function render({ model, el }) {
  const frame = make('div', { class: 'sk-frame' }), words = make('p', { class: 'sk-hidden', role: 'status' });
  mount(el, frame, words);
  function draw() {
    const at = model.get('keys_of_frames').indexOf(keyOfValues(model.get('values')));
    frame.classList.toggle('sk-stale', at < 0);
    frame.setAttribute('aria-busy', String(at < 0));
    if (at < 0) return; // the kernel is drawing, or the function refused these values, which the control says
    // In the page itself a drawing follows the theme, which an image would not know of.
    frame.replaceChildren(new DOMParser().parseFromString(model.get('frames')[at], 'image/svg+xml').documentElement);
    words.textContent = model.get('sentences')[at];
    model.set('words', { words: words.textContent }); // those who cannot see it read this
    countDrawing(frame);
  }
  for (const name of ['values', 'frames']) model.on(`change:${name}`, draw);
  draw();
}
export default { render };
