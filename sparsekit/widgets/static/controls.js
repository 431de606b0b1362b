// We make native controls from a list of fields. Each has a label, works by keyboard and says its value.

export const formats = {
  percent: value => `${value < 99 ? value.toFixed(1) : value.toFixed(2)} %`,
  share: value => `${(100 * value).toFixed(1)} %`,
  number: value => String(+Number(value).toPrecision(4)),
  steps: value => `${value} steps`,
  halvings: value => formats.percent(100 * (1 - 2 ** -value)),
};

const builders = {
  range(field, send) {
    const input = make('input', { type: 'range', min: field.low, max: field.high, step: field.step ?? 'any' });
    const output = make('output', { class: 'sk-value' });
    const format = formats[field.format] ?? formats.number;
    input.addEventListener('input', () => { set(Number(input.value)); send(Number(input.value)); });
    function set(value) {
      if (Number(input.value) !== value) input.value = value;
      output.textContent = format(value);
      input.setAttribute('aria-valuetext', format(value));
    }
    return { input, after: [output], set };
  },
  number(field, send) {
    const input = make('input', { type: 'number', min: field.low, max: field.high, step: field.step ?? 'any',
      placeholder: field.optional ? 'none' : null });
    input.addEventListener('change', () => send(input.value === '' ? null : Number(input.value)));
    return { input, set: value => { input.value = value ?? ''; } };
  },
  check(field, send) {
    const input = make('input', { type: 'checkbox' });
    input.addEventListener('change', () => send(input.checked));
    return { input, set: value => { input.checked = Boolean(value); } };
  },
  choice(field, send) {
    const input = make('select', {}, ...field.options.map(([value, text]) => make('option', { value }, text)));
    input.addEventListener('change', () => send(input.value));
    return { input, set: value => { input.value = value; } };
  },
  text(field) {
    const tag = { code: 'code', title: 'h3' }[field.format] ?? 'span', isQuiet = ['quiet', 'title'].includes(field.format);
    const input = make(tag, { class: field.format === 'title' ? 'sk-title' : 'sk-text', role: isQuiet ? null : 'status' });
    return { input, set: value => { input.textContent = value ?? ''; }, bare: true };
  },
  progress(field) {
    const input = make('progress', { max: field.high });
    return { input, set: value => { input.value = value; } };
  },
  button(field, send, press) {
    const input = make('button', { type: 'button', class: field.main ? 'sk-button sk-main' : 'sk-button' }, field.label);
    input.addEventListener('click', press);
    return { input, set: () => {}, bare: true };
  },
  radio(field, send) {
    const choices = field.options.map(([value, text]) => make('label', {},
      make('input', { type: 'radio', name: field.group, value }), make('span', {}, text)));
    const input = make('fieldset', { class: 'sk-radio' }, make('legend', {}, field.label), ...choices);
    input.addEventListener('change', event => send(event.target.value));
    const set = value => { for (const one of input.querySelectorAll('input')) one.checked = one.value === value; };
    return { input, set, bare: true };
  },
};

/** Build one field as a row of label, control, value and help, or the error where something is wrong. */
function buildField(field, send, press, id) {
  const control = builders[field.kind](field, send, press);
  const note = make('span', { class: 'sk-note', id: `${id}-note` });
  const line = control.bare ? [control.input]
    : [...labelled(field.label, control.input), ...(control.after ?? [])];
  const row = make('div', { class: `sk-field sk-is-${field.kind}`, 'data-name': field.name, 'data-depth': field.depth ?? 0 }, ...line, note);
  return { ...control, row, note };
}

/** Change what needs no new control, so that the reader keeps the focus. */
function refresh(control, field) {
  const { input, note, row } = control;
  note.textContent = field.error || field.help || '';
  note.classList.toggle('sk-error', Boolean(field.error));
  note.setAttribute('role', field.error ? 'alert' : 'note');
  input.setAttribute('aria-describedby', note.id);
  input.setAttribute('aria-invalid', Boolean(field.error));
  if ('disabled' in input) input.disabled = Boolean(field.disabled);
  row.hidden = Boolean(field.hidden);
  if (field.kind === 'button') input.textContent = field.label;
}

/** Name the parts of a field whose change makes another control necessary. */
const keyOf = field => JSON.stringify([field.name, field.kind, field.options, field.low, field.high, field.depth,
  field.kind === 'button' ? '' : field.label]);

const MUTE = 'Buttons and sliders need a kernel, so open this notebook in JupyterLab to use them.';

function render({ model, el }) {
  const form = make('div', { class: `sk-controls sk-${model.get('flow')}`, role: 'group', 'aria-label': model.get('title') });
  mount(el, form);
  const isMute = isRecorded(model) && !model.isLinked; // nothing in the page hears of its values
  if (isMute && model.get('fields').some(({ kind }) => !['text', 'progress'].includes(kind))) el.append(make('p', { class: 'sk-soft' }, MUTE));
  const built = new Map(), page = Math.random().toString(36).slice(2);

  function send(name, value) {
    model.set('values', { ...model.get('values'), [name]: value });
    model.save_changes();
  }
  function controlOf(field) {
    const key = keyOf(field);
    if (built.get(field.name)?.key !== key) {
      const group = { ...field, group: `${page}-${field.name}` };
      const control = buildField(group, value => send(field.name, value), () => model.send({ press: field.name }), `${page}-${field.name}`);
      built.set(field.name, { key, ...control });
    }
    return built.get(field.name);
  }
  function arrange(rows) {
    if (rows.length === form.children.length && rows.every((row, index) => row === form.children[index])) return;
    const focused = document.activeElement?.closest?.('[data-name]')?.dataset.name;
    form.replaceChildren(...rows);
    if (focused) built.get(focused)?.input.focus();
  }
  function draw() {
    const fields = model.get('fields').filter(field => !isMute || field.kind !== 'button'), values = model.get('values');
    const controls = fields.map(controlOf);
    arrange(controls.map(control => control.row));
    fields.forEach((field, index) => { refresh(controls[index], isMute ? { ...field, disabled: true } : field); controls[index].set(values[field.name]); });
    countDrawing(form);
  }

  const scheduleDraw = oncePerFrame(draw);
  for (const name of ['fields', 'values']) model.on(`change:${name}`, scheduleDraw);
  draw();
}
export default { render };
