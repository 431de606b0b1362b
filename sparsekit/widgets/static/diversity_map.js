// Networks stand on a map where near ones are alike. Zoom into a group, and see the mask of the one that you click.

const MOST = 30; // networks that have a bit each
const SHAPES = ['circle', 'square', 'triangle', 'diamond', 'cross', 'star'];

/** Return the outline of a marker around (0, 0) as an SVG path. */
export function marker(shape, r) {
  const polygon = (count, turn, radius = () => r) => `M${Array.from({ length: count }, (_, k) => {
    const a = turn + (2 * Math.PI * k) / count;
    return `${(radius(k) * Math.cos(a)).toFixed(2)} ${(radius(k) * Math.sin(a)).toFixed(2)}`;
  }).join('L')}Z`;
  if (shape === 'circle') return `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
  if (shape === 'square') return `M${-0.9 * r} ${-0.9 * r}h${1.8 * r}v${1.8 * r}h${-1.8 * r}Z`;
  if (shape === 'triangle') return polygon(3, -Math.PI / 2, () => 1.25 * r);
  if (shape === 'diamond') return polygon(4, 0, () => 1.2 * r);
  if (shape === 'cross') return polygon(12, Math.PI / 12, k => (k % 3 === 1 ? 0.55 * r : 1.25 * r));
  return polygon(10, -Math.PI / 2, k => (k % 2 ? 0.6 * r : 1.35 * r));
}

/** Return the nearest other member of a group to a network, and how far away it is. */
export function nearest(distances, from, among) {
  const others = among.filter(k => k !== from);
  return others.reduce((best, k) => (best === null || distances[from][k] < distances[from][best] ? k : best), null);
}

/** Return the mean distance of two networks of one group, and of two of different ones. */
export function meanDistances(distances, groupOf) {
  const pairs = [[], []];
  distances.forEach((row, a) => row.forEach((distance, b) => { if (b > a) pairs[Number(groupOf[a] !== groupOf[b])].push(distance); }));
  return pairs.map(list => list.reduce((sum, one) => sum + one, 0) / list.length);
}

/** Return a round distance that takes about a fifth of the map, for the bar that shows the scale. */
export function roundLength(reach) {
  const rough = reach / 2.5, power = 10 ** Math.floor(Math.log10(rough));
  return [5, 2, 1].find(k => k * power <= rough) * power;
}

function buildMap(model, spaces, groups, choose) {
  const title = make('h3', { class: 'sk-title', 'aria-live': 'polite' }), mask = make('canvas', { role: 'img' }), counts = make('tbody');
  const map = svg('svg', { class: 'sk-tk-map', role: 'application', tabindex: 0, 'aria-roledescription': 'map of networks', 'data-lm-suppress-shortcuts': 'true' });
  const pickers = [];
  if (spaces.length > 1) pickers.push(radioGroup('Distances', spaces.map(one => `By ${one.name}`), k => choose('space', spaces[k].name)));
  if (groups.length > 1) pickers.push(radioGroup('Zoom', ['All', ...groups], k => choose('zoom', k ? groups[k - 1] : '')));
  const head = make('p', { class: 'sk-figtitle' }), note = make('p', { class: 'sk-soft sk-tk-note' });
  const left = make('div', { class: 'sk-tk-column' }, map), right = make('div', { class: 'sk-tk-column' }, head, mask, make('table', { class: 'sk-tk-table' }, counts));
  const stage = make('div', { class: 'sk-stage sk-tickets' }, make('div', { class: 'sk-tk-head' }, title, copyButtonOf(model)),
    make('div', { class: 'sk-tk-jumps' }, ...pickers.map(([group]) => group)), make('div', { class: 'sk-tk-two' }, left, right), note);
  return { title, map, mask, counts, head, note, left, right, stage, pickers: pickers.map(([, set]) => set) };
}

function render({ model, el }) {
  const names = model.get('names'), shapes = model.get('shapes'), groupOf = model.get('groups'), spaces = model.get('spaces');
  const groups = [...new Set(groupOf)].filter(name => groupOf.filter(one => one === name).length > 1), every = names.map((_, k) => k);
  const topologies = readTickets(model.get('topologies')), unions = new Map();
  const choose = (name, value) => { model.set(name, value); model.save_changes(); schedule(true); };
  const view = buildMap(model, spaces, groups, choose);
  let shown = null, glide = 0;
  mount(el, view.stage);
  const members = group => (group ? every.filter(k => groupOf[k] === group) : every);
  const chosen = () => Math.max(0, names.indexOf(model.get('network')));
  const spaceNow = () => spaces.find(one => one.name === model.get('space')) ?? spaces[0];
  const mapNow = () => spaceNow().maps[model.get('zoom')] ?? spaceNow().maps[''];

  /** Return the points to draw: those of the map, and the middle of the group for networks that are not on it. */
  function target() {
    const zoom = model.get('zoom'), on = members(zoom), { points } = mapNow(), whole = spaceNow().maps[''].points;
    const middle = [0, 1].map(axis => on.reduce((sum, k) => sum + whole[k][axis], 0) / on.length);
    const reach = Math.max(1e-9, ...points.flat().map(Math.abs)), far = every.map(k => whole[k].map((value, axis) => value - middle[axis]));
    return { reach, alpha: every.map(k => (on.includes(k) ? 1 : 0)), points: every.map(k => (on.includes(k) ? points[on.indexOf(k)] : far[k])) };
  }
  function drawPoints({ reach, alpha, points }) {
    const width = view.left.clientWidth, height = clamp(0.66 * width, 280, 440), scale = (0.5 * Math.min(width - 150, height - 84)) / reach;
    const X = x => width / 2 + x * scale, Y = y => height / 2 - y * scale, k = chosen(), on = members(model.get('zoom')), near = nearest(spaceNow().distances, k, on);
    view.map.setAttribute('viewBox', `0 0 ${width} ${height}`); view.map.style.height = `${height}px`;
    const bar = roundLength(reach), parts = [svg('rect', { x: 0.5, y: 0.5, width: width - 1, height: height - 1, rx: 6, fill: 'var(--sk-surface)', stroke: 'var(--sk-line)' })];
    parts.push(svg('path', { d: `M16 ${height - 22}v6h${(bar * scale).toFixed(1)}v-6`, fill: 'none', stroke: 'var(--sk-soft)', 'stroke-width': 1.4 }),
      svg('text', { x: 16, y: height - 28, class: 'sk-tk-axis' }, `distance ${bar}`));
    if (near !== null && alpha[near] > 0.5) {
      parts.push(svg('line', { x1: X(points[k][0]), y1: Y(points[k][1]), x2: X(points[near][0]), y2: Y(points[near][1]), stroke: 'var(--sk-soft)', 'stroke-width': 1.4, 'stroke-dasharray': '5 4' }));
    }
    const taken = [], marks = [];
    for (const n of [k, ...every.filter(one => one !== k)]) {
      if (alpha[n] < 0.02) continue;
      const [x, y] = [X(points[n][0]), Y(points[n][1])], shape = SHAPES[[...new Set(groupOf)].indexOf(groupOf[n]) % SHAPES.length];
      const point = svg('g', { class: 'sk-tk-point', opacity: alpha[n], transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, 'data-name': names[n] },
        svg('circle', { r: 16, fill: 'transparent' }), svg('path', { d: marker(shape, 7), fill: `var(--sk-${n === k ? 'ink' : 'soft'})`, stroke: 'var(--sk-surface)', 'stroke-width': 1.5 }));
      if (n === k) point.append(svg('circle', { r: 13, fill: 'none', stroke: 'var(--sk-ink)', 'stroke-width': 2 }));
      const box = { x: x + 15, y: y - 8, width: 8.2 * names[n].length, height: 16 };
      if (n === k || !taken.some(one => one.x < box.x + box.width && box.x < one.x + one.width && one.y < box.y + box.height && box.y < one.y + one.height)) {
        taken.push(box); point.append(svg('text', { x: 17, y: 4.5, class: n === k ? 'sk-tk-name' : 'sk-tk-axis' }, names[n]));
      }
      point.addEventListener('click', () => choose('network', names[n]));
      marks.push(point);
    }
    parts.push(...marks.reverse()); // the chosen one on top
    if (!model.get('zoom')) {
      for (const group of groups) {
        const on = members(group), x = on.reduce((sum, n) => sum + X(points[n][0]), 0) / on.length, y = Math.max(...on.map(n => Y(points[n][1])));
        parts.push(svg('text', { x, y: Math.min(height - 8, y + 32), 'text-anchor': 'middle', class: 'sk-tk-name', opacity: Math.min(...on.map(n => alpha[n])) }, group));
      }
    }
    view.map.replaceChildren(...parts);
  }
  function drawMask() {
    const k = chosen(), all = members(groupOf[k]), isCrowd = all.length > MOST, group = isCrowd ? `${MOST} of them` : groupOf[k] || 'them';
    const on = isCrowd ? [k, ...all.filter(n => n !== k).slice(0, MOST - 1)] : all, place = on.indexOf(k), key = isCrowd ? `${groupOf[k]} ${k}` : groupOf[k];
    if (!unions.has(key)) unions.set(key, unionOf(on.map(n => topologies[n]), shapes));
    const union = unions.get(key), mine = Uint8Array.from(union.who, who => (who >> place) & 1), colours = kindColours(el, on.length, place);
    const entries = byKind(union, mine, on.length), own = entries[2 + place] ?? [];
    drawMasks(view.mask, Math.min(view.right.clientWidth, 320), shapes, entries, colours, el);
    const total = topologies[k].at.length, words = [[`in all of ${group}`, entries[0], 0], ['in some', entries[1], 1], ['only here', own, 2 + place]];
    view.counts.replaceChildren(...(on.length > 1 ? words : []).map(([text, list, kind]) => survivorRow(text, colours[kind], list.length, total)));
    view.mask.setAttribute('aria-label', `Mask of ${names[k]}: ${grouped(total)} connections${on.length > 1 ? words.map(([text, list]) => `, ${grouped(list.length)} ${text}`).join('') : ''}`);
  }
  function tell() {
    const k = chosen(), zoom = model.get('zoom'), space = spaceNow(), near = nearest(space.distances, k, members(zoom)), share = percent(mapNow().share, 0);
    const apart = !zoom && groups.length > 1 ? meanDistances(space.distances, groupOf) : null;
    view.title.textContent = near === null ? `${names[k]} stands alone`
      : apart ? `By ${space.name}, networks of one group are ${apart[0].toFixed(2)} apart, and those of different groups ${apart[1].toFixed(2)}` : `By ${space.name}, ${names[near]} is nearest to ${names[k]}, at a distance of ${space.distances[k][near].toPrecision(3)}`;
    view.note.textContent = `This map shows ${share} of the spread of ${zoom ? `${zoom} alone` : 'all networks'}. Only distances have a meaning, and the directions have none. `
      + `Click a point to see its mask${groups.length > 1 ? ', and zoom into a group to see its networks apart' : ''}. The dashed line leads to the nearest one.`;
    view.head.textContent = near === null ? names[k] : `${names[k]}: nearest is ${names[near]}, at ${space.distances[k][near].toPrecision(3)}`;
    view.map.setAttribute('aria-label', `${view.title.textContent}. ${view.head.textContent}. Arrow keys go from network to network.`);
    const picks = [];
    if (spaces.length > 1) picks.push(spaces.indexOf(space));
    if (groups.length > 1) picks.push(zoom ? groups.indexOf(zoom) + 1 : 0);
    view.pickers.forEach((set, n) => set(picks[n]));
  }
  function draw(moves) {
    if (!view.left.clientWidth) return;
    const to = target(), from = shown ?? to, begun = performance.now();
    cancelAnimationFrame(glide);
    tell(); drawMask();
    const step = () => {
      const t = !moves || prefersStill() ? 1 : clamp((performance.now() - begun) / 420, 0, 1), e = ease(t), mid = (a, b) => a + (b - a) * e;
      shown = { reach: Math.exp(mid(Math.log(from.reach), Math.log(to.reach))), alpha: to.alpha.map((a, n) => mid(from.alpha[n], a)),
        points: to.points.map((point, n) => point.map((value, axis) => mid(from.points[n][axis], value))) };
      drawPoints(shown);
      if (t < 1) glide = requestAnimationFrame(step); else countDrawing(view.mask);
    };
    step();
  }
  let moving = false;
  const later = oncePerFrame(() => { const moves = moving; moving = false; draw(moves); });
  function schedule(moves = false) { moving = moving || moves === true; later(); }
  view.map.addEventListener('keydown', event => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key], on = members(model.get('zoom'));
    if (!by) return;
    event.preventDefault();
    choose('network', names[on[(Math.max(0, on.indexOf(chosen())) + by + on.length) % on.length]]);
  });
  const heard = () => schedule(true), events = ['network', 'space', 'zoom'].map(name => `change:${name}`);
  events.forEach(event => model.on(event, heard));
  const stops = [onTheme(() => schedule()), onWidth(view.stage, () => schedule()), () => cancelAnimationFrame(glide), () => events.forEach(event => model.off(event, heard))];
  schedule();
  return () => stops.forEach(stop => stop());
}
export default { render };
