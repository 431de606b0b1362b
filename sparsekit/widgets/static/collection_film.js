// The film of a collection: the learning rate is the slider, below it the magnitudes, beside it the masks and who survives.

const ONE_FRAME = 260; // ms

/** Say what frame `index` shows. The frame after the last moment is the superposition. */
export function filmTitle(story, index) {
  const { frames, names } = story;
  if (index === frames.length) {
    const { all, stay } = story.survival, shares = stay.slice(2).map((count, k) => (all[2 + k] ? percent(count / all[2 + k], 0) : 'none'));
    const rest = shares.length > 2 ? `${shares.slice(1, -1).join(', ')} and ${shares.at(-1)} of the later ones'` : `${shares[1]} of the later one's`;
    return `Superposed: ${shares[0]} of ${names[0]}'s own connections survive, ${rest}`;
  }
  const { step, isNew, ratio, ticket } = frames[index], cycle = story.cycleOf(step);
  const count = isNew.reduce((sum, flag) => sum + flag, 0);
  if (cycle === 0) return `${names[0][0].toUpperCase()}${names[0].slice(1)} is the network before the cycles, with ${grouped(isNew.length)} connections`;
  const share = `${grouped(count)} new connections have ${percent(ratio)} of the kept ones' median magnitude`;
  return ticket === null ? `In cycle ${cycle}, ${share}` : `${names[ticket][0].toUpperCase()}${names[ticket].slice(1)} is taken: ${share}`;
}

export function median(values) {
  const sorted = Float64Array.from(values).sort(), half = sorted.length >> 1;
  return sorted.length ? (sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2) : NaN;
}

/** Decode everything once: frames with their magnitudes, the tickets' union, and who survives. */
export function readStory(model) {
  const shapes = model.get('shapes'), names = model.get('names'), steps = model.get('steps'), ends = model.get('ends');
  const moments = readTickets(model.get('moments')), tickets = ends.map(end => moments[steps.indexOf(end)]);
  const union = unionOf(tickets, shapes), first = new Set(tickets[0].at);
  const kept = superpose(union, tickets.map(() => 1), tickets[0].at.length);
  const frames = moments.map((moment, k) => {
    const isNew = Uint8Array.from(moment.at, place => (first.has(place) ? 0 : 1)), size = moment.w.map(Math.abs);
    const [grown, old] = [size.filter((_, n) => isNew[n]), size.filter((_, n) => !isNew[n])];
    const ticket = ends.indexOf(steps[k]);
    return { step: steps[k], at: moment.at, isNew, grown, old, ratio: median(grown) / median(old), ticket: ticket < 0 ? null : ticket };
  });
  const cycleOf = step => ends.findIndex(end => step <= end);
  return { shapes, names, ends, rates: model.get('rates'), accuracies: model.get('accuracies'), frames, union, kept, cycleOf,
    num: tickets.length, survival: countKinds(union, kept, tickets.length) };
}

/** Draw the learning rate, linear, with a dot where each ticket is taken, and a last stop for the superposition. */
function drawRate(canvas, story, index, element, width) {
  const H = 186, left = 40, right = width - (width < 480 ? 92 : 136), top = 30, bottom = H - 48, pen = sharpen(canvas, width, H);
  const { steps, values } = story.rates, low = steps[0], high = steps.at(-1), most = Math.max(...values);
  const X = step => left + ((step - low) / (high - low)) * (right - left), Y = rate => bottom - (rate / most) * (bottom - top);
  const colours = kindColours(element, story.num), ink = token(element, 'ink'), soft = token(element, 'soft');
  pen.font = `12px ${getComputedStyle(element).fontFamily}`;
  pen.strokeStyle = token(element, 'line'); pen.lineWidth = 1;
  for (const tick of ticks(0, most, 2)) {
    pen.beginPath(); pen.moveTo(left, Y(tick)); pen.lineTo(right, Y(tick)); pen.stroke();
    pen.fillStyle = soft; pen.textAlign = 'right'; pen.textBaseline = 'middle'; pen.fillText(String(tick), left - 8, Y(tick));
  }
  const here = index < story.frames.length ? story.frames[index].step : high;
  const line = (until, colour, wide) => {
    pen.strokeStyle = colour; pen.lineWidth = wide; pen.beginPath();
    steps.forEach((step, k) => step <= until && pen.lineTo(X(step), Y(values[k])));
    pen.stroke();
  };
  line(high, token(element, 'faint'), 1.6); line(here, ink, 2.4);
  pen.textBaseline = 'alphabetic';
  const room = right - left < 90 * story.num;
  story.ends.forEach((end, k) => {
    const x = X(end), y = Y(values[steps.indexOf(end)]), done = end <= here;
    pen.fillStyle = done ? (story.num <= 3 ? colours[2 + k] : ink) : token(element, 'paper');
    pen.strokeStyle = done ? token(element, 'paper') : soft; pen.lineWidth = 2;
    pen.beginPath(); pen.arc(x, y, 6, 0, 7); pen.fill(); pen.stroke();
    pen.fillStyle = done ? ink : soft; pen.textAlign = 'center';
    pen.fillText(room ? String(k) : story.names[k], x, bottom + 24);
    const accuracy = story.accuracies[k];
    if (accuracy !== null) { pen.fillStyle = soft; pen.fillText(percent(accuracy), x, bottom + 41); }
  });
  const stop = width - 40, last = index === story.frames.length;
  pen.setLineDash([3, 4]); pen.strokeStyle = last ? ink : soft; pen.lineWidth = last ? 2 : 1.2;
  pen.beginPath(); pen.moveTo(right + 10, Y(values.at(-1))); pen.lineTo(stop - 12, Y(values.at(-1))); pen.stroke(); pen.setLineDash([]);
  pen.fillStyle = last ? ink : soft; pen.textAlign = 'center'; pen.fillText('superposed', stop, bottom + 24);
  const rate = values[Math.max(0, steps.findLastIndex(step => step <= here))], [x, y] = last ? [stop, Y(values.at(-1))] : [X(here), Y(rate)];
  if (!last) { pen.strokeStyle = ink; pen.lineWidth = 1; pen.beginPath(); pen.moveTo(x, top - 12); pen.lineTo(x, bottom); pen.globalAlpha = 0.25; pen.stroke(); pen.globalAlpha = 1; }
  pen.fillStyle = ink; pen.strokeStyle = token(element, 'paper'); pen.lineWidth = 2.5;
  pen.beginPath(); pen.arc(x, y, 8, 0, 7); pen.fill(); pen.stroke();
  pen.fillStyle = soft; pen.textAlign = 'left'; pen.fillText('learning rate', 0, 12);
  const stops = story.frames.map(one => X(one.step));
  return [...stops, stop];
}

/** Return shares of magnitudes in `count` logarithmic bins from 1e-4 to `most`. What is smaller falls into the first. */
export function logBins(values, most, count = 44) {
  const bins = new Float64Array(count), low = Math.log(1e-4), step = (Math.log(most) - low) / count;
  for (const value of values) bins[clamp(Math.floor((Math.log(Math.max(value, 1e-4)) - low) / step), 0, count - 1)]++;
  return bins;
}

/** Draw how many connections have which magnitude, new ones as an ink line before the kept ones' grey hill. */
function drawMagnitudes(canvas, story, index, element, width, most, highest) {
  const H = 176, left = 8, right = width - 8, top = 34, bottom = H - 26, pen = sharpen(canvas, width, H);
  const { grown, old } = story.frames[Math.min(index, story.frames.length - 1)];
  const X = value => left + ((Math.log(Math.max(value, 1e-4)) - Math.log(1e-4)) / (Math.log(most) - Math.log(1e-4))) * (right - left);
  const ink = token(element, 'ink'), soft = token(element, 'soft'), grey = mixed(ink, token(element, 'paper'), 0.72);
  pen.font = `12px ${getComputedStyle(element).fontFamily}`;
  const hill = (values, fill, stroke) => {
    const bins = logBins(values, most), wide = (right - left) / bins.length;
    pen.beginPath(); pen.moveTo(left, bottom);
    bins.forEach((count, k) => { const y = bottom - (count / highest) * (bottom - top); pen.lineTo(left + k * wide, y); pen.lineTo(left + (k + 1) * wide, y); });
    pen.lineTo(right, bottom);
    if (fill) { pen.fillStyle = fill; pen.fill(); }
    if (stroke) { pen.strokeStyle = stroke; pen.lineWidth = 2; pen.stroke(); }
  };
  hill(old, grey, null);
  if (grown.length) hill(grown, null, ink);
  pen.strokeStyle = token(element, 'soft'); pen.lineWidth = 1; pen.beginPath(); pen.moveTo(left, bottom + 0.5); pen.lineTo(right, bottom + 0.5); pen.stroke();
  pen.fillStyle = soft; pen.textAlign = 'center';
  for (const tick of [0.001, 0.01, 0.1, 1]) if (tick < most) pen.fillText(String(tick), X(tick), bottom + 18);
  pen.textAlign = 'left'; pen.fillText('|w|', left, bottom + 18);
  const mark = (values, colour, text, up) => {
    if (!values.length) return;
    const middle = median(values), x = X(middle), width = pen.measureText(text).width, side = clamp(x, left + width / 2, right - width / 2);
    pen.strokeStyle = colour; pen.lineWidth = 1.5; pen.setLineDash([4, 3]); pen.beginPath(); pen.moveTo(x, up + 5); pen.lineTo(x, bottom); pen.stroke(); pen.setLineDash([]);
    pen.fillStyle = colour; pen.textAlign = 'center'; pen.fillText(text, side, up);
  };
  const near = grown.length && Math.abs(X(median(grown)) - X(median(old))) < 150;
  mark(old, soft, `kept, median ${median(old).toFixed(3)}`, 26);
  mark(grown, ink, `new, median ${median(grown).toFixed(3)}`, near ? 11 : 26);
  canvas.setAttribute('aria-label', `Magnitudes: ${grouped(old.length)} kept connections of median ${median(old).toFixed(3)}`
    + (grown.length ? `, ${grouped(grown.length)} new ones of median ${median(grown).toFixed(3)}` : ''));
}

function buildFilm(model) {
  const title = make('h3', { class: 'sk-title', 'aria-live': 'polite' }), play = make('button', { type: 'button', class: 'sk-main' }, 'Play');
  const rate = make('canvas', { tabindex: 0, role: 'slider', 'aria-label': 'Moment of the cycles', class: 'sk-tk-scrub' });
  const bars = make('canvas', { role: 'img' }), mask = make('canvas', { role: 'img' }), table = make('tbody');
  const left = make('div', { class: 'sk-tk-column' }, rate,
    make('p', { class: 'sk-figtitle sk-tk-gap' }, 'How strong are the new connections?'), bars,
    make('p', { class: 'sk-soft' }, 'Grey: connections of ticket 0. Line: those that it does not have, on the same logarithmic axis.'),
    make('table', { class: 'sk-tk-table sk-tk-gap' }, table));
  const caption = make('p', { class: 'sk-figtitle' });
  const right = make('div', { class: 'sk-tk-column' }, caption, mask);
  const note = make('p', { class: 'sk-soft sk-tk-note' }, 'Drag along the learning rate. A dot of the mask is one connection, and its colour says which tickets have it. The bars count how many of each kind are in the network shown. The last stop superposes all tickets in equal parts.');
  const stage = make('div', { class: 'sk-stage sk-tickets sk-tk-film' }, make('div', { class: 'sk-tk-head' }, title, make('div', { class: 'sk-tk-tools' }, play, copyButtonOf(model))), make('div', { class: 'sk-tk-two' }, left, right), note);
  return { stage, title, play, rate, bars, mask, table, left, right, caption };
}

function render({ model, el }) {
  const story = readStory(model), view = buildFilm(model), last = story.frames.length;
  const most = 1.15 * Math.max(...story.frames.map(({ grown, old }) => Math.max(...old, ...grown, 0.01)));
  const highest = 1.05 * Math.max(1, ...story.frames.flatMap(({ grown, old }) => [...logBins(old, most), ...logBins(grown.filter(v => v > 1e-4), most)]));
  let index = clamp(model.get('moment'), 0, last), stops = [0], timer = 0, seen = false;
  mount(el, view.stage);

  function maskEntries() {
    if (index === last) return byKind(story.union, story.kept, story.num);
    const shown = new Uint8Array(story.union.at.length), extra = [];
    const starts = startsOf(story.shapes);
    for (const at of story.frames[index].at) {
      const entry = story.union.entryOf.get(at);
      if (entry === undefined) extra.push({ at, layer: starts.findIndex((_, l) => at < starts[l + 1]) });
      else shown[entry] = 1;
    }
    const groups = byKind(story.union, shown, story.num);
    groups[1].push(...extra);
    return groups;
  }
  function drawTable(groups) {
    const names = kindNames(story.num, story.names), colours = kindColours(el, story.num), { all, stay } = story.survival;
    view.table.replaceChildren(...names.map((name, kind) => {
      const [part, whole] = index === last ? [stay[kind], all[kind]] : [groups[kind].length, all[kind]];
      return survivorRow(name, colours[kind], part, whole);
    }));
  }
  function draw() {
    if (!view.left.clientWidth) return;
    const title = filmTitle(story, index), groups = maskEntries();
    view.title.textContent = title;
    stops = drawRate(view.rate, story, index, el, view.left.clientWidth);
    drawMagnitudes(view.bars, story, index, el, view.left.clientWidth, most, highest);
    drawMasks(view.mask, Math.min(view.right.clientWidth, 330), story.shapes, groups, kindColours(el, story.num), el);
    drawTable(groups);
    view.caption.textContent = index === last ? 'The superposition' : 'The network at this step';
    view.mask.setAttribute('aria-label', `${title}. ${kindNames(story.num, story.names).map((name, k) => `${grouped(groups[k].length)} ${name}`).join(', ')}`);
    for (const [name, value] of [['valuemin', 0], ['valuemax', last], ['valuenow', index], ['valuetext', title]]) view.rate.setAttribute(`aria-${name}`, value);
    countDrawing(view.mask);
  }
  const schedule = oncePerFrame(draw);
  const show = to => { index = clamp(Math.round(to), 0, last); model.set('moment', index); schedule(); }; // Python is told when it rests
  function pause() {
    clearInterval(timer); timer = 0;
    view.play.textContent = 'Play'; view.title.setAttribute('aria-live', 'polite');
    model.save_changes();
  }
  function play() {
    if (timer) return pause();
    if (index === last) show(0);
    view.play.textContent = 'Pause'; view.title.setAttribute('aria-live', 'off'); // because four sentences a second help nobody
    timer = setInterval(() => { show(index + 1); if (index === last) pause(); }, prefersStill() ? 1000 : ONE_FRAME);
  }
  view.play.addEventListener('click', play);
  keys(view.rate, { min: () => 0, max: () => last, big: 4, get: () => index, set: to => { show(to); model.save_changes(); } });
  drag(view.rate, x => { if (timer) pause(); show(stops.reduce((best, at, k) => (Math.abs(at - x) < Math.abs(stops[best] - x) ? k : best), 0)); }, () => model.save_changes());
  const moved = () => { if (model.get('moment') !== index) { index = clamp(model.get('moment'), 0, last); schedule(); } };
  model.on('change:moment', moved);
  const watcher = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting || seen || prefersStill()) return;
    seen = true;
    if (index === last) play();
  }, { threshold: 0.6 });
  watcher.observe(view.rate); // not the stage, which is taller than a phone
  const stops_ = [onTheme(schedule), onWidth(view.stage, schedule), () => watcher.disconnect(), () => clearInterval(timer), () => model.off('change:moment', moved)];
  schedule();
  return () => stops_.forEach(stop => stop());
}
export default { render };
