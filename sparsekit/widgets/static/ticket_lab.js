// Tick tickets, weight them, or drag a point between three of them. The masks are made here, as Python's superpose makes them.

/** Return the measured mixture that is nearest to these shares. */
export function nearestMix(weights, shares) {
  const sum = shares.reduce((a, b) => a + b, 0), away = row => row.reduce((total, w, k) => total + (w - shares[k] / sum) ** 2, 0);
  return weights.reduce((best, row, n) => (away(row) < away(weights[best]) - 1e-12 ? n : best), 0);
}

/** Return shares of three corners at a point, negative outside of the triangle. */
export function barycentric([[ax, ay], [bx, by], [cx, cy]], x, y) {
  const d = (by - cy) * (ax - cx) + (cx - bx) * (ay - cy);
  const a = ((by - cy) * (x - cx) + (cx - bx) * (y - cy)) / d, b = ((cy - ay) * (x - cx) + (ax - cx) * (y - cy)) / d;
  return [a, b, 1 - a - b];
}

/** Return a quadratic function of three shares from its values at the corners and the middles of the sides. */
export function quadratic(weights, fitted) {
  const parts = Math.round(1 / Math.min(...weights.flat().filter(w => w > 1e-9)));
  const at = row => fitted[nearestMix(weights, row)], corners = [at([1, 0, 0]), at([0, 1, 0]), at([0, 0, 1])];
  const cross = (k, l) => { // from any mixture of two corners, as there may be no middle
    const row = [0, 0, 0];
    row[k] = Math.floor(parts / 2) / parts; row[l] = 1 - row[k];
    return (at(row) - corners[k] * row[k] ** 2 - corners[l] * row[l] ** 2) / (row[k] * row[l]);
  };
  const pairs = [cross(0, 1), cross(0, 2), cross(1, 2)];
  return ([a, b, c]) => corners[0] * a * a + corners[1] * b * b + corners[2] * c * c + pairs[0] * a * b + pairs[1] * a * c + pairs[2] * b * c;
}

const signed = points => `${points < 0 ? '−' : '+'}${Math.abs(points).toFixed(1)}`;

/** Say what a mixture achieves against the best single ticket. */
export function mixNote(mixes, index, names) {
  const row = mixes.weights[index], alone = row.findIndex(w => w > 0.999);
  if (alone >= 0) return `${names[alone]} alone`;
  const gain = 100 * mixes.gain[index], error = 100 * mixes.error[index];
  return `${signed(gain)} ± ${error.toFixed(1)} points against the best single ticket`;
}

/** State what the triangle shows, with the number of the equal parts. */
export function labTitle(mixes, middle) {
  const gain = 100 * mixes.gain[middle], error = 100 * mixes.error[middle], sum = `${signed(gain)} ± ${error.toFixed(1)} points`;
  if (gain > 2 * error) return `In equal parts, three tickets are better than the best of them: ${sum}`;
  if (gain < -2 * error) return `In equal parts, three tickets are worse than the best of them: ${sum}`;
  return `Between three tickets lies no valley: equal parts differ from the best of them by ${sum}`;
}

function geometry(width) {
  const side = Math.min(width - 24, 430), high = (side * Math.sqrt(3)) / 2, x = (width - side) / 2, y = 44;
  return { width, height: high + 92, P: [[x + side / 2, y], [x, y + high], [x + side, y + high]] };
}

/** Shade the fitted accuracy in bands, darker (in the dark brighter) where it is better. Hues mean tickets, so there are none. */
function drawShades(canvas, G, surfaceOf, { band, fitted }, element) {
  const pen = sharpen(canvas, G.width, G.height), ratio = canvas.width / G.width;
  const image = pen.createImageData(canvas.width, canvas.height), ground = token(element, 'surface'), ink = token(element, 'ink');
  const low = Math.floor(Math.min(...fitted) / band), bands = Math.max(1, Math.floor(Math.max(...fitted) / band) - low + 1);
  const shades = Array.from({ length: bands }, (_, k) => rgba(mixed(ground, ink, 0.05 + (0.42 * k) / Math.max(1, bands - 1))));
  const pixels = new Uint32Array(image.data.buffer);
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const mix = barycentric(G.P, x / ratio, y / ratio);
      if (mix[0] < 0 || mix[1] < 0 || mix[2] < 0) continue;
      pixels[y * canvas.width + x] = shades[clamp(Math.floor(surfaceOf(mix) / band) - low, 0, bands - 1)];
    }
  }
  pen.putImageData(image, 0, 0);
}

function drawTriangle(node, G, mixes, index, best, names) {
  const spot = row => [0, 1].map(axis => row.reduce((sum, w, k) => sum + w * G.P[k][axis], 0));
  node.setAttribute('viewBox', `0 0 ${G.width} ${G.height}`);
  node.style.height = `${G.height}px`;
  node.replaceChildren(svg('path', { d: `M${G.P.map(p => p.join(' ')).join('L')}Z`, fill: 'none', stroke: 'var(--sk-soft)', 'stroke-width': 1.2 }));
  for (const row of mixes.weights) { const [cx, cy] = spot(row); node.append(svg('circle', { cx, cy, r: 1.4, fill: 'var(--sk-ink)', opacity: 0.4 })); }
  const row = mixes.weights[index], [x, y] = spot(row), [bx, by] = spot(mixes.weights[best]);
  node.append(svg('path', { d: `M${bx - 6} ${by}h12m-6 -6v12`, stroke: 'var(--sk-ink)', 'stroke-width': 1.6 }));
  row.forEach((w, k) => w > 0.001 && node.append(svg('line', { x1: x, y1: y, x2: G.P[k][0], y2: G.P[k][1],
    stroke: `var(--sk-${TICKET_HUES[k]})`, 'stroke-width': 1 + 5 * w, 'stroke-linecap': 'round', opacity: 0.85 })));
  G.P.forEach(([cx, cy], k) => {
    const corner = nearestMix(mixes.weights, [0, 1, 2].map(n => Number(n === k))), anchor = ['middle', 'start', 'end'][k], dy = k ? 24 : -26;
    node.append(svg('circle', { cx, cy, r: 7, fill: `var(--sk-${TICKET_HUES[k]})`, stroke: 'var(--sk-paper)', 'stroke-width': 2 }),
      svg('text', { x: cx + [0, -8, 8][k], y: cy + dy, 'text-anchor': anchor, class: 'sk-tk-name' }, names[k]),
      svg('text', { x: cx + [0, -8, 8][k], y: cy + dy + 16, 'text-anchor': anchor, class: 'sk-tk-axis' }, percent(mixes.accuracy[corner])));
  });
  node.append(svg('circle', { cx: x, cy: y, r: 11, fill: 'var(--sk-ink)', stroke: 'var(--sk-paper)', 'stroke-width': 3 }));
}

/** Make a row for a ticket: box, weight, accuracy alone, and how many of its own connections stay. */
function ticketRow(name, k, set) {
  const box = make('input', { type: 'checkbox', 'aria-label': `Use ${name}` }), dot = swatch('none'), number = make('span', { class: 'sk-num sk-tk-share' });
  const range = make('input', { type: 'range', min: 0, max: 1, step: 'any', 'aria-label': `Weight of ${name}` });
  const label = make('label', { class: 'sk-tk-box' }, box, dot, name), alone = make('span', { class: 'sk-num' }), bar = make('i');
  const own = make('span', { class: 'sk-num sk-tk-own' }), row = make('div', { class: 'sk-tk-row', role: 'group', 'aria-label': name }, label, range, number, alone,
    make('div', { class: 'sk-tk-track', 'aria-hidden': 'true' }, bar), own);
  box.addEventListener('change', () => set(k, box.checked ? 1 : 0, 'box'));
  range.addEventListener('input', () => set(k, Number(range.value), 'weight'));
  return { box, range, number, alone, bar, own, dot, row };
}

/** Return the bars of everything that was measured. They begin below the lowest, and the caption says where. */
function resultBars(trial) {
  const names = Object.keys(trial), values = Object.values(trial), low = Math.min(...values), high = Math.max(...values);
  const first = Math.max(0, low - 0.5 * Math.max(0.02, high - low)), rows = names.map(name => {
    const bar = make('i');
    bar.style.cssText = `width:${(100 * (trial[name] - first)) / Math.max(high - first, 1e-9)}%;background:var(--sk-${name === 'superposed' ? 'ink' : 'soft'})`;
    return make('tr', {}, make('th', { scope: 'row' }, name), make('td', { class: 'sk-num' }, percent(trial[name])),
      make('td', { class: 'sk-tk-track-cell', 'aria-hidden': 'true' }, make('div', { class: 'sk-tk-track' }, bar)));
  });
  return [make('table', { class: 'sk-tk-table' }, make('tbody', {}, ...rows)), make('p', { class: 'sk-soft' }, `Test accuracy. The bars begin at ${percent(first)}.`)];
}

function buildLab(model, names, set, hasTriangle) {
  const title = make('h3', { class: 'sk-title', 'aria-live': 'polite' }), hero = make('span', { class: 'sk-hero' }), note = make('span', { class: 'sk-soft sk-num' });
  const shades = make('canvas', { class: 'sk-tk-shades', 'aria-hidden': 'true' });
  const triangle = svg('svg', { class: 'sk-tk-triangle', role: 'application', tabindex: 0, 'aria-roledescription': 'mixing triangle', 'data-lm-suppress-shortcuts': 'true' });
  const jumps = make('div', { class: 'sk-tk-jumps' }), results = make('div', { class: 'sk-tk-results' });
  const left = make('div', { class: 'sk-tk-column' }, make('div', { class: 'sk-tk-hero' }, hero, note),
    hasTriangle ? make('div', { class: 'sk-tk-hold' }, shades, triangle) : results, hasTriangle ? jumps : '');
  const rows = names.map((name, k) => ticketRow(name, k, set)), common = make('tbody'), mask = make('canvas', { role: 'img' });
  const head = make('p', { class: 'sk-figtitle' }), caption = make('p', { class: 'sk-soft sk-tk-note' });
  const right = make('div', { class: 'sk-tk-column' }, head, make('p', { class: 'sk-soft sk-tk-legend' }, 'weight · accuracy alone · how many of its own connections stay'),
    make('div', { class: 'sk-tk-rows' }, ...rows.map(one => one.row)), make('table', { class: 'sk-tk-table' }, common), mask);
  const stage = make('div', { class: 'sk-stage sk-tickets' }, make('div', { class: 'sk-tk-head' }, title, copyButtonOf(model)), make('div', { class: 'sk-tk-two sk-tk-even' }, left, right), caption);
  return { title, hero, note, shades, triangle, jumps, results, left, right, rows, common, mask, head, caption, stage };
}

function render({ model, el }) {
  const shapes = model.get('shapes'), names = model.get('names'), num = names.length, tickets = readTickets(model.get('tickets'));
  const union = unionOf(tickets, shapes), budget = tickets[0].at.length, mixes = model.get('mixture_table'), hasTriangle = Boolean(mixes.weights);
  const view = buildLab(model, names, setWeight, hasTriangle), spread = hasTriangle ? quadratic(mixes.weights, mixes.fitted) : null;
  const middle = hasTriangle ? nearestMix(mixes.weights, [1, 1, 1]) : 0, best = hasTriangle ? mixes.accuracy.indexOf(Math.max(...mixes.accuracy)) : 0;
  let weights = [...model.get('weights')], chosen = 0, G = null, glide = 0;
  const index = () => nearestMix(mixes.weights, weights);
  mount(el, view.stage);

  function setWeight(k, value, from) {
    const next = weights.map((w, n) => (n === k ? value : w));
    chosen = k;
    if (from === 'weight' && hasTriangle) { // the shares sum to one, so that the others keep their proportion
      const rest = weights.reduce((sum, w, n) => (n === k ? sum : sum + w), 0), others = num - 1;
      next.forEach((w, n) => { if (n !== k) next[n] = rest > 1e-9 ? ((1 - value) * w) / rest : (1 - value) / others; });
    } else if (from === 'box' && hasTriangle) {
      const used = weights.map((w, n) => (n === k ? value > 0 : w > 1e-9));
      next.forEach((_, n) => { next[n] = used[n] ? 1 : 0; });
    }
    if (next.some(w => w > 1e-9)) weights = hasTriangle ? [...mixes.weights[nearestMix(mixes.weights, next)]] : next;
    tell(true);
  }
  function tell(save) {
    model.set('weights', weights);
    if (save) model.save_changes();
    schedule();
  }
  function drawRows(counts) {
    const sum = weights.reduce((a, b) => a + b, 0), colours = kindColours(el, num, chosen), alone = model.get('alone');
    view.rows.forEach((one, k) => {
      const uses = weights[k] > 1e-9, share = weights[k] / sum;
      one.box.checked = uses; one.dot.style.background = colours[2 + k];
      one.range.value = hasTriangle ? share : weights[k];
      one.range.setAttribute('aria-valuetext', percent(share, 0));
      one.number.textContent = percent(share, 0); one.alone.textContent = percent(alone[k]);
      one.bar.style.cssText = `width:${counts.all[2 + k] ? (100 * counts.stay[2 + k]) / counts.all[2 + k] : 0}%;background:${colours[2 + k]}`;
      one.own.textContent = `${grouped(counts.stay[2 + k])} of ${grouped(counts.all[2 + k])}`;
      one.row.classList.toggle('sk-tk-out', !uses);
    });
    const kinds = kindNames(num, names);
    view.common.replaceChildren(...[0, 1].map(kind => survivorRow(kinds[kind], colours[kind], counts.stay[kind], counts.all[kind])));
  }
  function drawMeasured() {
    const trial = model.get('measured'), fresh = trial.of && trial.of.every((w, k) => Math.abs(w - weights[k]) < 1e-9);
    view.results.classList.toggle('sk-tk-working', !fresh);
    view.hero.textContent = fresh ? percent(trial.accuracies.superposed) : '…';
    const single = Math.max(...model.get('alone'));
    view.note.textContent = fresh ? `superposed, the best single ticket has ${percent(single)}` : isRecorded(model) ? 'not measured' : 'working';
    view.title.textContent = fresh ? trial.sentence : isRecorded(model) ? 'This page has no kernel to measure this mixture' : 'The kernel is measuring this mixture';
    if (fresh) view.results.replaceChildren(...resultBars(trial.accuracies));
    view.caption.textContent = 'The masks are made in your browser, and the kernel measures accuracies. A dot is a connection that stays. Only the ticket that you touched last has a hue.';
  }
  function drawMixes() {
    const now = index(), kind = mixNote(mixes, now, names);
    view.title.textContent = labTitle(mixes, middle);
    view.hero.textContent = percent(mixes.accuracy[now]); view.note.textContent = kind;
    const next = geometry(view.left.clientWidth), style = getComputedStyle(el).getPropertyValue('--sk-ink');
    if (!G || G.width !== next.width || G.style !== style) { G = { ...next, style }; drawShades(view.shades, G, spread, mixes, el); }
    drawTriangle(view.triangle, G, mixes, now, best, names);
    view.triangle.setAttribute('aria-label', `Mix of three tickets, ${mixes.weights[now].map(w => Math.round(100 * w)).join(' to ')} per cent: ${percent(mixes.accuracy[now])}, ${kind}. Arrow keys move the point.`);
    view.caption.textContent = mixes.caption;
  }
  function draw() {
    if (!view.left.clientWidth) return;
    const kept = superpose(union, weights, budget), counts = countKinds(union, kept, num);
    const total = counts.stay.reduce((a, b) => a + b, 0);
    view.head.textContent = `${percent(counts.stay[0] / total, 0)} of it is ${kindNames(num, names)[0]} tickets`;
    drawRows(counts);
    drawMasks(view.mask, Math.min(view.right.clientWidth, 280), shapes, byKind(union, kept, num), kindColours(el, num, chosen), el);
    view.mask.setAttribute('aria-label', `Mask of the mixture: ${kindNames(num, names).map((name, k) => `${grouped(counts.stay[k])} ${name}`).join(', ')}`);
    if (hasTriangle) drawMixes(); else drawMeasured();
    countDrawing(view.mask);
  }
  const schedule = oncePerFrame(draw);
  function goTo(target) {
    cancelAnimationFrame(glide);
    const from = [...weights], begun = performance.now(), sum = from.reduce((a, b) => a + b, 0);
    const step = () => {
      const t = prefersStill() ? 1 : clamp((performance.now() - begun) / 420, 0, 1), e = ease(t);
      weights = [...mixes.weights[nearestMix(mixes.weights, from.map((w, k) => w / sum + (mixes.weights[target][k] - w / sum) * e))]];
      tell(t === 1);
      if (t < 1) glide = requestAnimationFrame(step);
    };
    step();
  }
  if (hasTriangle) {
    drag(view.triangle, (x, y) => {
      cancelAnimationFrame(glide);
      const mix = barycentric(G.P, x, y).map(v => clamp(v, 0, 1));
      weights = [...mixes.weights[nearestMix(mixes.weights, mix)]];
      tell(false);
    }, () => model.save_changes());
    view.triangle.addEventListener('keydown', event => {
      const move = { ArrowUp: [2, -1, -1], ArrowDown: [-2, 1, 1], ArrowLeft: [0, 1, -1], ArrowRight: [0, -1, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      const parts = mixes.parts, row = mixes.weights[index()].map((w, k) => clamp(Math.round(w * parts) + move[k] / (move[0] ? 2 : 1), 0, parts));
      weights = [...mixes.weights[nearestMix(mixes.weights, row)]];
      tell(true);
    });
    const targets = [...names.map((name, k) => [name[0].toUpperCase() + name.slice(1), nearestMix(mixes.weights, [0, 1, 2].map(n => Number(n === k)))]),
      ['Equal parts', middle], [`Best of all ${mixes.weights.length} (+)`, best]];
    view.jumps.append(...targets.map(([text, target]) => {
      const button = make('button', { type: 'button' }, text);
      button.addEventListener('click', () => goTo(target));
      return button;
    }));
  }
  const heard = ['weights', 'measured'].map(name => [`change:${name}`, () => { weights = [...model.get('weights')]; schedule(); }]);
  heard.forEach(([event, hear]) => model.on(event, hear));
  const stops = [onTheme(schedule), onWidth(view.stage, schedule), () => cancelAnimationFrame(glide), () => heard.forEach(([event, hear]) => model.off(event, hear))];
  schedule();
  return () => stops.forEach(stop => stop());
}
export default { render };
