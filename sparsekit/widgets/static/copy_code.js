// A button copies a cell that rebuilds what a widget shows. The state is a text such as "density=0.01&score=trained".

/** Write settings as one line of text, which `state=` of the same widget reads again. Those that are null are left out. */
export function stateText(values) {
  const known = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(known.map(([name, value]) => [name, Array.isArray(value) ? value.join('_') : String(value)])).toString();
}

/** Return the settings of a widget's state, which are the traits that Python names. `now` has those that are newer here. */
export function sharedNow(model, now = {}) {
  return Object.assign({}, ...model.get('shared_traits').map(name => {
    const value = now[name] ?? model.get(name);
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : { [name]: value };
  }));
}

/** Put a state into the code that Python sent, where it says {state}. */
export const codeOf = (template, values) => template.replaceAll('{state}', stateText(values));

/** Copy a text, also where a page may not use the clipboard by itself, and return whether it worked. */
async function copyText(text) {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* the older way follows */ }
  const area = make('textarea', { class: 'sk-hidden', 'aria-hidden': 'true' }, text);
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand('copy');
  area.remove();
  return isCopied;
}

/** Make the button of a widget. `now()` returns the settings that its model does not have yet. */
export function copyButtonOf(model, now = () => ({})) {
  tellState(model, () => stateText(sharedNow(model, now())));
  return copyButton(() => codeOf(model.get('code'), sharedNow(model, now())));
}

/** Tell a page without a kernel how to ask for a widget's state, which it writes into links. */
export function tellState(model, state) {
  if (isRecorded(model)) model.stateText = state;
}

/** Make the button and the line that shows the code once it was pressed. `code()` is asked at each press. */
export function copyButton(code) {
  const button = make('button', { type: 'button', class: 'sk-button sk-copy' }, 'Copy as code');
  const text = make('code', { class: 'sk-code', hidden: true, tabindex: 0, 'aria-label': 'Code of this state' });
  const said = make('span', { class: 'sk-hidden', role: 'status' });
  button.addEventListener('click', async () => {
    text.textContent = code();
    const isCopied = await copyText(code());
    text.hidden = isCopied;
    button.textContent = said.textContent = isCopied ? 'Copied' : 'Copy it by hand';
    setTimeout(() => { button.textContent = 'Copy as code'; }, 1600);
  });
  return make('div', { class: 'sk-copying' }, button, text, said);
}
