// One image for each setting of some controls is here already, so a slider needs no kernel.

/** Write the values of controls in the order of their names, as Python does. */
export const keyOfValues = values => JSON.stringify(Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1)));

function render({ model, el }) {
  const image = make('img', { class: 'sk-frame' }), words = make('p', { class: 'sk-hidden', role: 'status' });
  mount(el, image, words);
  const addresses = model.get('frames').map(frame => URL.createObjectURL(new Blob([bytesOf(frame)], { type: 'image/png' })));
  function draw() {
    const at = model.get('keys_of_frames').indexOf(keyOfValues(model.get('values')));
    image.classList.toggle('sk-stale', at < 0);
    if (at < 0) return; // the function refused these values, which the control says
    image.src = addresses[at];
    image.alt = words.textContent = model.get('sentences')[at];
    image.style.width = `${model.get('width')}px`;
    countDrawing(image);
  }
  model.on('change:values', draw);
  draw();
  return () => addresses.forEach(address => URL.revokeObjectURL(address));
}
export default { render };
