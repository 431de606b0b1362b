// Models of widgets without a kernel. They hold recorded traits, tell of changes, and read a state from a link.

/** Put recorded bytes where traits name them by number. */
function revive(value, bytes) {
  if (Array.isArray(value)) return value.map(one => revive(one, bytes));
  if (value === null || typeof value !== 'object') return value;
  if (typeof value.bytes === 'number' && Object.keys(value).length === 1) return bytes[value.bytes];
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, revive(one, bytes)]));
}

/** Inflate bytes that were written as base64. */
async function inflate(text) {
  const small = new Blob([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))]);
  return new DataView(await new Response(small.stream().pipeThrough(new DecompressionStream('deflate-raw'))).arrayBuffer());
}

/** Make a model as anywidget hands it to a script. `isRecorded` tells the script that nobody answers. */
function recordedModel(traits) {
  const heard = new Map();
  const tell = event => { for (const call of [...(heard.get(event) ?? [])]) call(); };
  return {
    isRecorded: true,
    get: name => traits[name],
    set(name, value) {
      if (traits[name] === value) return;
      traits[name] = value;
      tell(`change:${name}`);
      tell('change');
    },
    save_changes() {},
    send() {},
    on: (event, call) => heard.set(event, [...(heard.get(event) ?? []), call]),
    off: (event, call) => heard.set(event, call ? (heard.get(event) ?? []).filter(one => one !== call) : []),
  };
}

/** Keep the traits of two models equal, as jslink does. */
function linkModels([from, name], [to, other], isTwoWay) {
  from.isLinked = to.isLinked = true;
  from.on(`change:${name}`, () => to.set(other, from.get(name)));
  if (isTwoWay) to.on(`change:${other}`, () => from.set(name, to.get(other)));
}

/** Read a setting of a link as the kind of value that it replaces. */
function readAs(now, text) {
  if (typeof now === 'string') return text;
  if (typeof now === 'boolean') return text === 'true';
  if (Array.isArray(now)) return text.split('_').map(Number);
  return text === '' || Number.isNaN(Number(text)) ? now : Number(text);
}

/** Set what a link says of a widget, which has settings of its own, values of controls, or one text. */
function restoreModel(model, text) {
  const said = new URLSearchParams(text), names = model.get('shared_traits') ?? [];
  const read = settings => Object.fromEntries(Object.entries(settings).map(([key, now]) => [key, said.has(key) ? readAs(now, said.get(key)) : now]));
  const isGroup = value => value !== null && typeof value === 'object' && !Array.isArray(value);
  if (names.length) {
    for (const name of names) {
      const now = model.get(name);
      if (isGroup(now)) model.set(name, read(now));
      else if (said.has(name)) model.set(name, readAs(now, said.get(name)));
    }
  } else if (isGroup(model.get('values'))) model.set('values', read(model.get('values')));
  else model.set('state', text);
}
