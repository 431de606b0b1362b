// The page of a living network: its elements, without any behaviour.

/** Make all elements of the widget. `names` are those of the networks, of which one alone needs no choice. */
export function networkPage(words, image, names, { onNetwork, onMode, timeChart, keepChart, copy }) {
  const part = { title: make('p', { class: 'sk-title' }), lede: make('p', { class: 'sk-soft' }), score: make('strong', { class: 'sk-hero' }),
    scoreNote: make('span', { class: 'sk-soft' }), what: make('p', { class: 'sk-soft' }), tip: make('div', { class: 'sk-net-tip', 'aria-hidden': 'true' }),
    live: make('p', { class: 'sk-hidden', 'aria-live': 'polite' }), timeTitle: make('p', { class: 'sk-figtitle' }),
    timeNote: make('p', { class: 'sk-soft sk-num' }), keepNote: make('p', { class: 'sk-soft sk-num' }) };
  const button = (text, attributes = {}) => make('button', { type: 'button', ...attributes }, text);
  Object.assign(part, { next: button(`Next ${words.example}`), clear: button('Clear'), restore: button('Restore', { hidden: true }),
    play: button('Play', { class: 'sk-main' }) });
  [part.networks, part.chooseNetwork] = radioGroup('Network', names, onNetwork);
  [part.modes, part.chooseMode] = radioGroup('Lines show', ['All weights', `What this ${words.example} uses`], onMode);
  part.networks.hidden = names.length < 2;
  part.lines = make('canvas', { class: 'sk-net-lines', 'aria-hidden': 'true' });
  part.spare = make('canvas', { class: 'sk-net-lines', 'aria-hidden': 'true' }); // on which the next film frame is drawn
  part.strong = make('div', { class: 'sk-net-lines', 'aria-hidden': 'true' }); // a canvas while the reader drags
  part.flash = make('canvas', { class: 'sk-net-lines', 'aria-hidden': 'true' });
  part.graph = make('canvas', { class: 'sk-net-graph', tabindex: 0, role: 'application', 'aria-roledescription': 'network graph' });
  const drawing = image ? `${image[1]} by ${image[0]} pixels: draw with mouse, pen or finger` : `${words.numInputs} values: bend the line with mouse, pen or finger`;
  part.pad = make('div', { class: 'sk-net-pad', role: 'img', 'aria-label': `Drawing pad, ${drawing}` });
  part.under = make('div', { class: 'sk-net-under' }, part.what, make('div', { class: 'sk-net-row' }, part.next, part.clear, part.restore));
  part.stage = make('div', { class: 'sk-net-stage' }, part.lines, part.spare, part.strong, part.flash, part.graph, part.pad, part.under, part.tip);
  part.table = make('div', { class: 'sk-scroll' });
  part.details = make('details', { class: 'sk-net-details' }, make('summary', {}, 'The working units as a table'), part.table);
  part.time = figure(make('div', { class: 'sk-net-head' }, part.play, make('div', {}, part.timeTitle, part.timeNote)), timeChart);
  part.keep = figure(make('div', { class: 'sk-net-head' }, make('div', {}, make('p', { class: 'sk-figtitle' }, 'How few are enough?'), part.keepNote)), keepChart);
  part.dials = make('div', { class: 'sk-net-dials' }, part.time, part.keep);
  part.page = make('div', { class: 'sk-stage sk-net' }, top(part), bar(part), part.stage, ...how(part), part.dials, foot(words, copy), part.details, part.live);
  return part;
}

const figure = (head, chart) => make('figure', {}, head, chart);

const top = part => make('div', { class: 'sk-net-top' }, make('div', {}, part.title, part.lede), make('div', { class: 'sk-net-score' }, part.score, part.scoreNote));

function bar(part) {
  const key = (colour, text) => make('span', {}, make('i', { style: `border-color: var(--sk-${colour})` }), text);
  return make('div', { class: 'sk-net-bar' }, part.networks, part.modes,
    make('span', { class: 'sk-net-key sk-soft' }, key('plus', 'excites'), key('minus', 'inhibits'), make('span', {}, 'thicker: stronger')));
}

function how(part) {
  const id = `sk-net-how-${Math.random().toString(36).slice(2)}`;
  part.graph.setAttribute('aria-describedby', id);
  return [make('p', { class: 'sk-hidden', id }, 'Arrow keys walk through the units, Enter removes or restores one, Escape leaves. The result is read out.')];
}

function foot(words, copy) {
  const note = `Each line is one weight of a real network. The accuracy is measured here, on ${grouped(words.numExamples)} test ${words.examples}. `
    + `Point at a unit to see what it looks for, which is the sum over all paths of the weights along them, multiplied. `
    + `Click it, or a line, to cut it out. Dashes are on no path from ${words.input} to ${words.aClass}. `
    + 'Compare widths within one layer only.';
  return make('div', { class: 'sk-net-foot' }, make('p', { class: 'sk-soft' }, note), copy);
}

/** Return a table of the working units, for those who cannot see the graph. */
export function unitTable(rows) {
  const head = ['Unit', 'In', 'Out', 'Now at', 'Right without it'].map(text => make('th', { scope: 'col' }, text));
  const body = rows.map(([name, ...cells]) => make('tr', {}, make('th', { scope: 'row' }, name), ...cells.map(cell => make('td', {}, String(cell)))));
  return make('table', { class: 'sk-table' }, make('thead', {}, make('tr', {}, ...head)), make('tbody', {}, ...body));
}
