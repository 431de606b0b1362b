// Put every widget of the page in its place, and write what the reader did into a link.

const recorded = JSON.parse(document.getElementById('widgets').textContent), bytes = await Promise.all(recorded.bytes.map(inflate));
const models = new Map(Object.entries(recorded.models).map(([id, one]) => [id, { ...one, model: recordedModel(revive(one.traits, bytes)) }]));
const plainId = reference => reference.replace('IPY_MODEL_', '');
const known = [...models.values()].filter(one => one.script !== null && one.script !== undefined);
const firstStates = new Map();

for (const { kind, traits } of models.values()) {
  if (!kind.endsWith('Link')) continue;
  const ends = [traits.source, traits.target].map(([reference, name]) => [models.get(plainId(reference)).model, name]);
  linkModels(ends[0], ends[1], kind === 'Link');
}

function renderInto(place, id) {
  const { kind, script, model, traits } = models.get(id);
  model.place = place;
  if (script !== null && script !== undefined) return sparsekit.scripts[script].render({ model, el: place });
  const box = document.createElement('div');
  box.className = kind === 'VBox' ? 'column' : 'row';
  place.append(box);
  for (const child of traits.children ?? []) renderInto(box.appendChild(document.createElement('div')), plainId(child));
}

/** Return the settings of all widgets that differ from the recorded ones, by the widgets' numbers. */
function statesNow() {
  const states = new URLSearchParams();
  known.forEach(({ model }, number) => {
    const text = model.stateText?.();
    if (text !== undefined && text !== firstStates.get(number)) states.set(`w${number}`, text);
  });
  return states.toString();
}

/** Take over what the link says, and return the numbers of the widgets that it names. */
function restore() {
  const numbers = new Set();
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    const number = /^w(\d+)$/.exec(name)?.[1];
    if (number === undefined || !known[number]) continue;
    restoreModel(known[number].model, text);
    numbers.add(Number(number));
  }
  return numbers;
}

const shareButton = document.getElementById('share');
shareButton.addEventListener('click', async () => {
  const states = statesNow(), link = location.href.split('#')[0] + (states ? `#${states}` : '');
  history.replaceState(null, '', link);
  try { await navigator.clipboard.writeText(link); shareButton.textContent = 'Copied'; } catch { shareButton.textContent = 'It is in the address'; }
  setTimeout(() => { shareButton.textContent = 'Copy link'; }, 1600);
});
addEventListener('hashchange', () => { if (/^#w\d+=/.test(location.hash)) location.reload(); });

const pause = () => new Promise(done => setTimeout(done));
const restored = restore(), places = [...document.querySelectorAll('.widget[data-model]')].filter(place => models.has(place.dataset.model));
for (const place of places) { // one after the other, so that the page can be read meanwhile
  try { renderInto(place, place.dataset.model); } catch (error) { reportError(error); }
  await pause();
}
await new Promise(requestAnimationFrame);
known.forEach(({ model }, number) => { if (!restored.has(number)) firstStates.set(number, model.stateText?.()); });
document.body.dataset.widgets = 'ready';
if (restored.size) known[Math.min(...restored)].model.place?.scrollIntoView({ block: 'start' });
else if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
