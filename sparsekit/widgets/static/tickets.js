// What the widgets about several tickets share: who has a connection, who survives superposition, and the masks' colours.

export const TICKET_HUES = ['plus', 'minus', 'third'];

/** Read tickets as `ticket_encoding.encode_ticket` wrote them: positions over all layers, and values if they were sent. */
export function readTickets(list) {
  return list.map(({ count, gaps, values }) => {
    const raw = bytesOf(values);
    return { at: positions(bytesOf(gaps), count), w: raw.length ? new Float32Array(raw.slice().buffer) : null };
  });
}

/** Return where each layer begins among the positions of all layers, and where the last one ends. */
export function startsOf(shapes) {
  const starts = [0];
  for (const [rows, cols] of shapes) starts.push(starts.at(-1) + rows * cols);
  return starts;
}

/** Lay tickets side by side: `at` and `layer` of each connection, `who` has it (a bit each), and its `values` (0 if missing). */
export function unionOf(tickets, shapes) {
  const starts = startsOf(shapes), entryOf = new Map();
  for (const { at } of tickets) for (const place of at) entryOf.set(place, 0);
  const at = Int32Array.from(entryOf.keys()).sort(), layer = new Uint8Array(at.length), who = new Int32Array(at.length);
  at.forEach((place, entry) => entryOf.set(place, entry));
  for (let entry = 0, l = 0; entry < at.length; entry++) {
    while (at[entry] >= starts[l + 1]) l++;
    layer[entry] = l;
  }
  const values = tickets.map((ticket, k) => {
    const row = new Float64Array(at.length);
    ticket.at.forEach((place, n) => {
      const entry = entryOf.get(place);
      who[entry] |= 1 << k;
      if (ticket.w) row[entry] = ticket.w[n];
    });
    return row;
  });
  return { at, layer, who, values, entryOf };
}

/**
 * Average over the union and keep the strongest, exactly `budget` of them, as Python's `superpose` does.
 * Tickets of weight 0 take no part, and no layer loses its last connection. Returns 1 for what stays.
 */
export function superpose(union, weights, budget) {
  const { at, layer, who, values } = union, total = weights.reduce((a, b) => a + b, 0), kept = new Uint8Array(at.length);
  const chosen = weights.reduce((bits, weight, k) => (weight ? bits | (1 << k) : bits), 0), strength = new Float64Array(at.length);
  const entries = [], top = new Map();
  for (let e = 0; e < at.length; e++) {
    if (!(who[e] & chosen)) continue;
    let sum = 0;
    for (let k = 0; k < weights.length; k++) if (weights[k]) sum += weights[k] * values[k][e];
    strength[e] = Math.abs(sum / total);
    entries.push(e);
    if (!top.has(layer[e]) || strength[e] > strength[top.get(layer[e])]) top.set(layer[e], e);
  }
  for (const e of top.values()) strength[e] = Infinity;
  const sorted = Float64Array.from(entries, e => strength[e]).sort(), least = sorted[Math.max(0, entries.length - budget)];
  let left = budget - entries.reduce((sum, e) => sum + (strength[e] > least), 0);
  for (const e of entries) kept[e] = strength[e] > least || (strength[e] === least && left-- > 0) ? 1 : 0; // of equal ones the first
  return kept;
}

/** Return 0 for what all tickets have, 1 for what some have, and 2 + k for what only ticket k has. */
export function kindOf(who, num) {
  if (who === 2 ** num - 1) return 0;
  return who & (who - 1) || !who ? 1 : 2 + Math.log2(who);
}

/** Count the connections of each kind, and those that stay. */
export function countKinds(union, kept, num) {
  const all = new Array(num + 2).fill(0), stay = new Array(num + 2).fill(0);
  union.who.forEach((who, e) => { const kind = kindOf(who, num); all[kind]++; stay[kind] += kept[e]; });
  return { all, stay };
}

/** Return the names of the kinds, for example 'in all three', 'in some' and 'only in ticket 1'. */
export function kindNames(num, names) {
  const word = { 2: 'both', 3: 'all three', 4: 'all four' }[num] ?? `all ${num}`;
  return [`in ${word}`, num === 3 ? 'in two' : 'in some', ...names.map(name => `only in ${name}`)];
}

/** Return a colour for each kind: ink, grey, and hues for up to three tickets. Of more tickets only the chosen one has a hue. */
export function kindColours(element, num, chosen = 0) {
  const hue = k => (num <= 3 ? TICKET_HUES[k] : k === chosen ? 'plus' : null);
  const grey = mixed(token(element, 'ink'), token(element, 'surface'), 0.58);
  return [token(element, 'ink'), grey, ...Array.from({ length: num }, (_, k) => (hue(k) ? token(element, hue(k)) : grey))];
}

/** Return a colour between two of '#rrggbb', as '#rrggbb'. */
export function mixed(from, to, share) {
  const part = k => Math.round(parseInt(from.slice(k, k + 2), 16) * (1 - share) + parseInt(to.slice(k, k + 2), 16) * share);
  return `#${[1, 3, 5].map(k => part(k).toString(16).padStart(2, '0')).join('')}`;
}

/** Place every layer below the one before, its longer side across, all as wide as the figure. */
export function maskLayout(shapes, width) {
  let top = 0;
  const layers = shapes.map(([rows, cols]) => {
    const turned = rows > cols, long = Math.max(rows, cols), short = Math.min(rows, cols), cell = Math.min(width / long, 16);
    const place = { turned, cols, cell, top, height: Math.max(4, short * cell), width: long * cell };
    top += place.height + 10;
    return place;
  });
  return { layers, height: Math.max(1, top - 10) };
}

/** Draw connections as dots in the colour of their kind, first what all have and last what is rare, so that it stays visible. */
export function drawMasks(canvas, width, shapes, entries, colours, element) {
  const { layers, height } = maskLayout(shapes, width), starts = startsOf(shapes), pen = sharpen(canvas, width, height);
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = token(element, 'surface');
  for (const one of layers) pen.fillRect(0, one.top, one.width, one.height);
  colours.forEach((colour, kind) => {
    pen.fillStyle = colour;
    for (const { at, layer } of entries[kind] ?? []) {
      const one = layers[layer], place = at - starts[layer], row = Math.floor(place / one.cols), col = place % one.cols;
      const dot = Math.max(1.4, one.cell * (one.cell > 3 ? 0.86 : 1.25));
      pen.fillRect((one.turned ? row : col) * one.cell, one.top + (one.turned ? col : row) * one.cell, dot, dot);
    }
  });
  pen.strokeStyle = token(element, 'line');
  for (const one of layers) pen.strokeRect(0.5, one.top + 0.5, one.width - 1, one.height - 1);
}

/** Sort those connections of a union that are shown by their kind, as `drawMasks` takes them. */
export function byKind(union, shown, num) {
  const groups = Array.from({ length: num + 2 }, () => []);
  union.at.forEach((at, e) => { if (shown[e]) groups[kindOf(union.who[e], num)].push({ at, layer: union.layer[e] }); });
  return groups;
}

/** Return a row 'swatch, name, 997 of 1,442, bar' of the table of survivors. */
export function survivorRow(name, colour, stay, all) {
  const bar = make('i');
  bar.style.cssText = `width:${all ? (100 * stay) / all : 0}%;background:${colour}`;
  return make('tr', {}, make('th', { scope: 'row' }, swatch(colour), name), make('td', { class: 'sk-num' }, `${grouped(stay)} of ${grouped(all)}`),
    make('td', { class: 'sk-tk-track-cell', 'aria-hidden': 'true' }, make('div', { class: 'sk-tk-track' }, bar)));
}

export function swatch(colour) {
  const mark = make('span', { class: 'sk-tk-dot', 'aria-hidden': 'true' });
  mark.style.background = colour;
  return mark;
}

/** Draw again when the element gets another width. Returns a function that stops this. */
export function onWidth(element, draw) {
  let last = 0;
  const watcher = new ResizeObserver(() => {
    const width = Math.round(element.clientWidth);
    if (width && width !== last) { last = width; draw(); }
  });
  watcher.observe(element);
  return () => watcher.disconnect();
}
