// A living network: what is shown now, and what the reader does. Drawing, layout, words and arithmetic are in other modules.

const CHART = { height: 116, edge: { left: 34, right: 14, top: 12, bottom: 24 } };
const PERCENT = { ends: [0, 1], ticks: [0, 0.5, 1].map(value => [value, `${100 * value}`]) };
const LEAST_KEPT = 8; // connections at the right end of the pruning chart
const FIRST_FRAME_MS = 420, PARADE_MS = 2600, PARADE_LENGTH = 10;
const REST_MS = 160; // after which a hand that drags is at rest
const MEASURE_MS = 25; // between two measurements of a crowd, while the reader drags
const TELL_MS = 250; // before the kernel hears of it

function render({ model, el }) {
  const facts = model.get('facts'), { image } = facts, words = wordsOf(model), examples = openExamples(model), timers = {};
  const state = { net: 0, frame: 0, kept: null, mode: 'weights', cutUnits: new Set(), cutLinks: new Set(), hover: null, focus: null,
    example: 0, drawing: null, strokes: null, input: null, told: null };
  const motion = { flash: -1e9, wave: -1e9, mixFrom: -1e9, measured: -1e9, isPlaying: false, isDragging: false, shares: new Float32Array(words.names.length) };
  const view = { state, motion, words, image, nets: model.get('networks').map(openNetwork), geo: null, colours: {}, now: {} }; // `now` follows from the state
  const passing = parade(view.nets[0].chain, linksAt(view.nets[0], view.nets[0].frames.length - 1).links, view.nets[0].frames.at(-1).biases, examples);
  let turn = 0;

  const net = () => view.nets[state.net], frame = () => net().frames[state.frame];
  const timeEnds = () => [0, net().frames.at(-1).step || 1], keepEnds = () => [Math.max(frame().count, LEAST_KEPT + 1), LEAST_KEPT];
  const timeChart = chart('Rewiring', { ...CHART, move: part => { touch(); play(false); show(nearestFrame(unshare(part, timeEnds()))); },
    keySettings: { min: () => 0, max: () => net().frames.length - 1, get: () => state.frame, set: k => { touch(); play(false); show(k, true); } } });
  const keepChart = chart('Connections kept, the strongest first', { ...CHART, move: part => { touch(); play(false); keep(Math.round(unshare(part, keepEnds(), true))); },
    keySettings: { min: () => LEAST_KEPT, max: () => frame().count, step: -1, big: 20, get: () => state.kept ?? frame().count, set: count => { touch(); keep(count); } } });
  const part = networkPage(words, image, view.nets.map(one => one.name), {
    onNetwork: k => { touch(); choose(k); }, onMode: k => { touch(); setMode(k ? 'signal' : 'weights'); },
    timeChart: timeChart.element, keepChart: keepChart.element, copy: copyButton(() => model.get('code').replaceAll('{state}', writeState(stateNow()))) });
  mount(el, part.page);
  view.part = part;
  tellState(model, () => writeState(stateNow()));
  const { schedule, readColours, stop: stopPainting } = makePainter(view);
  const { point, explain } = listenToGraph(view, { touch, lesion, tell, schedule, without: target => without(target) });

  // --- what follows from the state ---
  const isAlive = link => (state.kept === null || link.rank < state.kept) && !state.cutLinks.has(link.at) && !state.cutUnits.has(link.from) && !state.cutUnits.has(link.to);
  function recompute(mayWait = false) {
    const { chain, busy, frames } = net(), { links: allLinks, gone, previous, biases } = linksAt(net(), state.frame), links = allLinks.filter(isAlive);
    const waits = mayWait && links.length > FEW && performance.now() - motion.measured < MEASURE_MS;
    clearTimeout(timers.measure);
    if (waits) timers.measure = setTimeout(() => { recompute(); drawKept(); }, MEASURE_MS);
    else motion.measured = performance.now();
    const cuts = state.cutUnits.size + state.cutLinks.size, accuracy = waits ? view.now.accuracy : accuracyOf(chain, links, biases, examples, state.cutUnits);
    const accuracyWhole = cuts ? accuracyOf(chain, allLinks.filter(link => state.kept === null || link.rank < state.kept), biases, examples) : accuracy;
    if (state.kept !== null && !cuts && !waits) net().trail.set(state.kept, accuracy);
    view.now = { ...state, chain, busy, frames, allLinks, links, gone, previous, cuts, accuracy, accuracyWhole, examples, image, words, names: words.names,
      onPath: onPaths(chain, links), frame: frame(), isFirst: state.frame === 0, isLast: state.frame === frames.length - 1, label: examples.labels[state.example] };
    think();
    schedule('lines');
    tellKernel();
  }
  function think() {
    const { chain } = view.now;
    view.now.act = forward(chain, view.now.links, frame().biases, state.input, 1, state.cutUnits);
    view.now.probability = softmax(view.now.act.subarray(chain.outputs));
    view.now.ink = Float32Array.from(state.input, value => (value - facts.low) / (facts.high - facts.low));
    Object.assign(view.now, { input: state.input, drawing: state.drawing, label: examples.labels[state.example] });
    tell();
    schedule(...(state.mode === 'signal' ? ['lines'] : []));
  }
  const without = target => accuracyOf(view.now.chain, view.now.links.filter(link => (target.link ? link !== target.link : link.from !== target.unit && link.to !== target.unit)),
    frame().biases, examples, target.link ? state.cutUnits : new Set([...state.cutUnits, target.unit]));

  // --- words ---
  function tell() {
    part.title.textContent = titleOf(view.now);
    part.lede.textContent = ledeOf(view.now);
    part.score.textContent = percent(view.now.accuracy);
    part.scoreNote.textContent = scoreNote(view.now);
    part.restore.hidden = !view.now.cuts;
    part.timeTitle.textContent = view.now.frames.at(-1).rewiring ? 'It rewires while it learns' : 'It learns with the connections that it has';
    part.timeNote.textContent = timeNote(view.now);
    part.keepNote.textContent = keepNote(view.now);
    part.time.hidden = view.now.frames.length < 2;
    part.dials.classList.toggle('sk-net-one', view.now.frames.length < 2);
    const [bold, text] = state.told ?? inputWords({ ...view.now, drawing: state.drawing });
    part.what.replaceChildren(make('b', {}, bold), text);
    const name = state.drawing ? `your ${words.example}` : `this ${image ? words.names[view.now.label] : words.example}`;
    part.modes.lastChild.textContent = `What ${name} uses`;
    const read = words.names[view.now.probability.indexOf(Math.max(...view.now.probability))];
    part.graph.setAttribute('aria-label', `Network graph. ${view.now.links.length} connections, ${percent(view.now.accuracy)} of the test ${words.examples} right. The input is read as ${read}.`);
  }
  function drawCharts() { drawTime(); drawKept(); }
  function drawTime() {
    const { frames } = net(), last = frames.at(-1).step || 1, f = frame();
    timeChart.draw({ y: PERCENT,
      x: { ends: timeEnds(), ticks: [[0, 'start'], [last, `step ${grouped(last)}`, 'end']] },
      strokes: frames.filter((one, k) => k && one.rewiring !== frames[k - 1].rewiring).map(one => one.step),
      lines: [{ kind: 'ahead', points: frames.map(one => [one.step, one.accuracy]) }, { kind: 'played', points: frames.slice(0, state.frame + 1).map(one => [one.step, one.accuracy]) }],
      handle: { x: f.step, y: f.accuracy, text: percent(f.accuracy) },
      value: { min: 0, max: frames.length - 1, now: state.frame, text: `step ${f.step}, after ${f.rewiring} rewirings, ${percent(f.accuracy)} right` } });
  }
  function drawKept() {
    const { trail } = net(), all = frame().count, kept = state.kept ?? all, round = [3000, 1000, 300, 100, 30, 10].filter(count => count < all * 0.45 && count >= LEAST_KEPT);
    const points = [...trail].sort((a, b) => b[0] - a[0]);
    keepChart.draw({ y: PERCENT,
      x: { ends: keepEnds(), log: true, ticks: [[all, grouped(all), 'start'], ...round.map(count => [count, grouped(count)])] },
      lines: [{ kind: 'trail', points }], marks: marks(all), hint: points.length < 2 ? 'drag' : '',
      handle: { x: kept, y: view.now.accuracy, text: percent(view.now.accuracy) },
      value: { min: LEAST_KEPT, max: all, now: kept, text: `${kept} of ${all} connections kept, ${percent(view.now.accuracy)} right` } });
  }
  const marks = all => view.nets.filter(one => one !== net() && one.frames.at(-1).count < all)
    .map(one => ({ x: one.frames.at(-1).count, y: one.frames.at(-1).accuracy, text: `${one.name}: ${percent(one.frames.at(-1).accuracy)}` }));
  function fillTable() {
    if (part.details.open) part.table.replaceChildren(unitTable(unitRows(view.now, unit => without({ unit }))));
  }

  // --- what the reader and the kernel change ---
  function show(k, isNext = false) {
    const begun = performance.now();
    Object.assign(state, { frame: k, kept: null });
    Object.assign(motion, { flash: begun, mixFrom: isNext && !prefersStill() ? begun : -1e9 });
    recompute();
    drawCharts();
    schedule('flash');
  }
  function nearestFrame(step) {
    const away = net().frames.map(one => Math.abs(one.step - step));
    return away.indexOf(Math.min(...away));
  }
  function choose(k) {
    play(false);
    Object.assign(state, { net: k, kept: null, hover: null, focus: null, told: null });
    state.cutUnits.clear(); state.cutLinks.clear();
    view.geo = view.geo && layoutOf(net(), { image, names: words.names }, view.geo.width);
    part.chooseNetwork(k);
    show(net().frames.length - 1);
    Object.assign(motion, { flash: -1e9, wave: performance.now() });
  }
  function keep(count) {
    motion.isDragging = true;
    clearTimeout(timers.rest);
    timers.rest = setTimeout(() => { motion.isDragging = false; fillTable(); schedule('lines'); }, REST_MS);
    if (state.kept === null) net().trail.set(frame().count, view.now.accuracy);
    state.kept = count >= frame().count ? null : clamp(count, LEAST_KEPT, frame().count);
    motion.flash = -1e9;
    recompute(true);
    drawKept();
  }
  function setMode(mode) {
    state.mode = mode;
    part.chooseMode(mode === 'signal' ? 1 : 0);
    schedule('lines');
    tellKernel();
  }
  function showExample(n) {
    pad.clear();
    Object.assign(state, { example: n, drawing: null, strokes: null, input: Float32Array.from({ length: facts.num_inputs }, (_, k) => examples.inputs[k * examples.count + n]) });
    motion.wave = performance.now();
    if (view.now.links) { think(); tellKernel(); }
  }
  const nextExample = () => showExample(passing[++turn % passing.length]);
  function showDrawing(levelsOfInk, drawing) {
    Object.assign(state, { drawing, input: Float32Array.from(levelsOfInk, level => facts.low + level * (facts.high - facts.low)) });
    think();
  }
  function play(on) {
    clearTimeout(timers.play);
    motion.isPlaying = on;
    part.play.textContent = on ? 'Pause' : 'Play';
    const next = () => {
      if (state.frame >= net().frames.length - 1) return play(false);
      show(state.frame + 1, true);
      timers.play = setTimeout(next, prefersStill() ? 1000 : state.frame < 4 ? FIRST_FRAME_MS : FRAME_MS);
    };
    if (!on) return;
    if (state.frame >= net().frames.length - 1) show(0);
    timers.play = setTimeout(next, FIRST_FRAME_MS);
  }
  function lesion(target) {
    if (!target || target.unit >= view.now.chain.outputs) return;
    const [set, key] = target.link ? [state.cutLinks, target.link.at] : [state.cutUnits, target.unit];
    if (!set.delete(key)) set.add(key);
    motion.wave = performance.now();
    recompute();
    drawCharts(); fillTable();
    if (target.link) point(null);
    else explain(target);
    part.live.textContent = `${percent(view.now.accuracy)} right with ${view.now.cuts} ${view.now.cuts === 1 ? 'cut' : 'cuts'}.`;
  }
  function restore() {
    state.cutUnits.clear(); state.cutLinks.clear();
    state.focus = null;
    recompute();
    point(null); drawCharts(); fillTable();
  }

  // --- the pad ---
  const begin = () => { touch(); point(null); };
  const pad = image ? drawingPad(part.pad, {
    begin, ink: (strokes, box) => { state.strokes = box === WHOLE ? strokes : null; showDrawing(rasterise(strokes, box, image), 'yours'); },
    rest: () => { motion.wave = performance.now(); schedule(); tellKernel(); },
  }) : { clear() {}, stop() {} };
  if (!image) drag(part.pad, bendHere, () => { state.bent = null; motion.wave = performance.now(); schedule(); tellKernel(); });
  function bendHere(x, y, event) {
    const { pad: box, tall } = view.geo, count = facts.num_inputs, along = tall ? x / box.w : y / box.h, across = tall ? 1 - y / box.h : x / box.w;
    const to = [clamp(Math.floor(along * count), 0, count - 1), Math.round(240 * clamp(across, 0, 1)) / 240];
    if (event.type === 'pointerdown') { begin(); state.bent = to; }
    showDrawing(bend(view.now.ink, state.bent ?? to, to).map(level => Math.round(240 * level) / 240), 'yours');
    state.bent = to;
  }
  part.next.addEventListener('click', () => { touch(); nextExample(); });
  part.clear.addEventListener('click', () => { touch(); pad.clear(); state.strokes = null; showDrawing(new Float32Array(facts.num_inputs), 'empty'); tellKernel(); });
  part.restore.addEventListener('click', restore);
  part.play.addEventListener('click', () => { touch(); play(!motion.isPlaying); });
  part.details.addEventListener('toggle', fillTable);

  // --- the state, to and from the kernel ---
  function stateNow() {
    const { chain } = net(), pairOf = unit => { const column = columnOf(chain, unit); return [column, unit - chain.first[column]]; };
    const threeOf = at => {
      const layer = chain.starts.findIndex((start, k) => at >= start && at < chain.starts[k + 1]), inside = at - chain.starts[layer], inputs = chain.shapes[layer][1];
      return [layer, Math.floor(inside / inputs), inside % inputs];
    };
    return { network: state.net, step: frame().step, kept: state.kept, mode: state.mode, units: [...state.cutUnits].map(pairOf),
      links: [...state.cutLinks].map(threeOf), example: state.example, drawn: state.drawing === 'yours' ? view.now.ink : null };
  }
  function tellKernel() {
    clearTimeout(timers.tell);
    if (motion.isPlaying) return;
    timers.tell = setTimeout(() => {
      const said = stateNow();
      for (const [name, value] of Object.entries({ state: writeState(said), cut_units: said.units, cut_links: said.links, kept: said.kept,
        rewiring: frame().rewiring, drawn: said.drawn ? [...state.input] : [] })) model.set(name, value);
      model.save_changes();
    }, TELL_MS);
  }
  function apply(text) {
    const to = readState(text);
    if (to.network !== state.net && view.nets[to.network]) choose(to.network);
    const { chain } = net();
    state.cutUnits = new Set(to.units.map(([column, unit]) => chain.first[column] + unit));
    state.cutLinks = new Set(to.links.map(([layer, output, input]) => chain.starts[layer] + output * chain.shapes[layer][1] + input));
    if (to.drawn) { pad.clear(); state.strokes = null; showDrawing(to.drawn, 'yours'); } else if (to.example !== null) showExample(Math.min(to.example, examples.count - 1));
    setMode(to.mode);
    show(to.step === null ? net().frames.length - 1 : nearestFrame(to.step));
    motion.flash = -1e9;
    if (to.kept !== null) keep(to.kept);
  }
  model.on('change:state', () => { const text = model.get('state'); if (text !== writeState(stateNow())) { touch(); play(false); apply(text); } });
  model.on('change:frame', () => {
    const fresh = readFrames(bytesOf(model.get('frame'))), { frames } = view.nets[0], isFollowing = state.net === 0 && state.frame === frames.length - 1;
    const later = fresh.filter(one => one.step > frames.at(-1).step);
    frames.push(...later);
    if (later.length && isFollowing) { touch(); show(frames.length - 1, true); } else drawCharts();
  });
  model.on('change:networks', () => {
    const { step } = frame(), isLast = state.frame === net().frames.length - 1;
    view.nets = model.get('networks').map(openNetwork);
    state.frame = isLast ? net().frames.length - 1 : nearestFrame(step);
    motion.flash = -1e9;
    resize(true); // because the units get their order in the end
  });

  // --- size, theme, and the first screen ---
  function touch() { clearInterval(timers.parade); timers.parade = 0; }
  function resize(anew = false) {
    const width = Math.floor(part.stage.clientWidth);
    if (!width || (!anew && view.geo?.width === width)) return;
    view.geo = layoutOf(net(), { image, names: words.names }, width);
    for (const canvas of [part.lines, part.spare, part.flash, part.graph]) sharpen(canvas, view.geo.width, view.geo.height);
    const { pad: box, tall } = view.geo, css = (element, values) => Object.assign(element.style, Object.fromEntries(Object.entries(values).map(([k, v]) => [k, `${v}px`])));
    css(part.stage, { height: view.geo.height });
    css(part.pad, { left: box.x, top: box.y, width: box.w, height: box.h });
    const beside = tall && image;
    css(part.under, { left: beside ? box.w + 16 : 0, top: tall ? 0 : box.y + box.h + 12, width: beside ? width - box.w - 16 : tall ? width : Math.max(box.w, 170) });
    part.page.classList.toggle('sk-net-tall', Boolean(beside));
    recompute(); readColours(); drawCharts();
  }
  const watcher = new ResizeObserver(() => resize());
  const stopWatchingTheme = onTheme(() => { readColours(); drawCharts(); });
  const systemTheme = matchMedia('(prefers-color-scheme: dark)');
  systemTheme.addEventListener('change', readColours);
  const seen = new IntersectionObserver(([entry]) => { if (entry.isIntersecting) { seen.disconnect(); open(); } }, { threshold: 0.3 });
  function open() { // the film plays once when the reader first sees it, and then some examples pass
    if (model.get('state') || prefersStill()) return;
    if (net().frames.length > 1 && !facts.is_live) { show(0); play(true); }
    let passed = 0;
    timers.parade = setInterval(() => {
      if (passed >= PARADE_LENGTH) return touch();
      if (!state.hover && !motion.isPlaying && !document.hidden) { passed++; nextExample(); }
    }, PARADE_MS);
  }
  state.frame = net().frames.length - 1;
  showExample(passing[0] ?? 0);
  part.chooseNetwork(0); part.chooseMode(0);
  recompute();
  if (model.get('state')) apply(model.get('state'));
  resize();
  watcher.observe(part.stage);
  seen.observe(part.stage);
  return () => {
    play(false); touch(); pad.stop(); timeChart.stop(); keepChart.stop();
    Object.values(timers).forEach(clearTimeout);
    stopPainting();
    watcher.disconnect(); seen.disconnect(); stopWatchingTheme();
    systemTheme.removeEventListener('change', readColours);
  };
}
export default { render };
