// The circuit explorer: a graph of a task's nodes and weights. Pointing shows activations, a click ablates.

const WIDTH = 920, HEIGHT = 330, LEFT = 36, TOP = 22, BOTTOM = 92, RADIUS = 7, THICKEST = 7;
const BARS = 96; // pixels, in which the largest activation of a node is drawn

/** Return the ablated nodes after one has been clicked, as the numbers with spaces between them. */
export function toggled(ablated, number) {
  const now = new Set(ablated.split(' ').filter(Boolean).map(Number));
  if (now.has(number)) now.delete(number); else now.add(number);
  return [...now].sort((a, b) => a - b).join(' ');
}

/** Return bars of activations: signed heights as shares of the largest magnitude. */
export function sharesOf(values) {
  const largest = Math.max(...values.map(Math.abs), 1e-9);
  return values.map(value => value / largest);
}

export const answerTo = (answers, { text, ablated }) => answers.find(one => one.text === text && one.ablated === ablated) ?? null;

function render({ model, el }) {
  const graph = model.get('graph'), isMute = isRecorded(model);
  let choice = { ...model.get('choice') }, timer = null, isGone = false, hover = Math.max(0, graph.nodes.findIndex((_, k) => !graph.fixed.includes(k))), shown = null;

  const title = make('h3', { class: 'sk-title', role: 'status' }), line = make('p', { class: 'sk-soft sk-num' });
  const text = make('input', { type: 'text', class: 'sk-write-prompt', value: choice.text, disabled: isMute, spellcheck: 'false', autocomplete: 'off' });
  const whole = make('button', { type: 'button' }, 'Whole circuit');
  const drawing = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: 'sk-circuit-graph', role: 'group', 'aria-label': 'Nodes of the circuit' });
  const bars = svg('svg', { viewBox: `0 0 ${WIDTH} ${BARS + 40}`, class: 'sk-circuit-bars', role: 'img' }), name = make('h4', { class: 'sk-figtitle' });
  const stage = make('section', { class: 'sk-stage sk-explorer sk-write', 'aria-label': 'The circuit of a task' },
    make('div', { class: 'sk-head' }, title, copyButtonOf(model, () => ({ choice }))), line,
    make('div', { class: 'sk-dials' }, ...labelled('Your text', text), whole),
    make('div', { class: 'sk-circuit-scroll' }, drawing), name, bars,
    make('p', { class: 'sk-soft' }, 'Blue weights and bars are positive, orange ones negative. Dotted lines are the stream that blocks read from and write to. Hollow nodes are ablated.'));
  mount(el, stage);

  const columns = graph.columns.length, x = at => LEFT + (WIDTH - 2 * LEFT) * graph.nodes[at].x / Math.max(1, columns - 1);
  const y = at => TOP + (HEIGHT - TOP - BOTTOM) * graph.nodes[at].y, largest = Math.max(...graph.edges.map(edge => Math.abs(edge.weight)));
  const lines = [
    ...graph.streams.map(([first, last]) => svg('line', { x1: x(first), y1: y(first), x2: x(last), y2: y(last), class: 'sk-circuit-stream' })),
    ...graph.edges.map(edge => svg('line', { x1: x(edge.from), y1: y(edge.from), x2: x(edge.to), y2: y(edge.to), class: edge.weight > 0 ? 'sk-circuit-plus' : 'sk-circuit-minus', 'stroke-width': Math.max(0.8, THICKEST * Math.abs(edge.weight) / largest) })),
  ];
  const nodes = graph.nodes.map((node, at) => {
    const isFixed = graph.fixed.includes(at), circle = svg('circle', { cx: x(at), cy: y(at), r: RADIUS });
    const label = svg('text', { x: x(at), y: y(at) - RADIUS - 3, 'text-anchor': 'middle' }, node.name);
    const group = svg('g', { class: 'sk-circuit-node', ...(isFixed ? {} : { tabindex: 0, role: 'button', 'data-lm-suppress-shortcuts': 'true' }), 'aria-label': `${node.group} ${node.name}` }, circle, label);
    if (isFixed) return group;
    for (const event of ['pointerenter', 'focus']) group.addEventListener(event, () => { hover = at; schedule(); });
    group.addEventListener('click', () => choose({ ablated: toggled(choice.ablated, at) }));
    group.addEventListener('keydown', event => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      choose({ ablated: toggled(choice.ablated, at) });
    });
    return group;
  });
  const names = graph.columns.map((column, k) => {
    const at = LEFT + (WIDTH - 2 * LEFT) * k / Math.max(1, columns - 1);
    return svg('text', { x: at, y: HEIGHT - BOTTOM + 18, class: 'sk-circuit-column', 'text-anchor': 'end', transform: `rotate(-35 ${at} ${HEIGHT - BOTTOM + 18})` }, column.replace('attention.', ''));
  });
  drawing.append(...lines, ...nodes, ...names);

  text.addEventListener('input', () => choose({ text: text.value }, 350));
  whole.addEventListener('click', () => choose({ ablated: '' }));
  function choose(changes, wait = 60) {
    choice = { ...choice, ...changes };
    schedule();
    clearTimeout(timer);
    timer = setTimeout(() => { timer = null; model.set('choice', choice); model.save_changes(); }, wait);
  }

  function drawBars() {
    const node = graph.nodes[hover], values = shown?.bars[hover] ?? [], shares = sharesOf(values), width = Math.min(56, (WIDTH - 2 * LEFT) / Math.max(1, values.length));
    name.textContent = `What ${node.group} ${node.name} computes at each token`;
    bars.setAttribute('aria-label', `${node.group} ${node.name}: ${values.map((value, k) => `${shown.tokens[k]} ${value}`).join(', ')}`);
    const low = Math.min(0, ...shares), zero = 8 + (BARS - 16) / (1 - low || 1), scale = zero - 8;
    bars.replaceChildren(
      svg('line', { x1: LEFT, x2: LEFT + width * values.length, y1: zero, y2: zero, class: 'sk-circuit-zero' }),
      ...shares.map((share, k) => svg('rect', { x: LEFT + k * width + 3, width: width - 6, y: share > 0 ? zero - share * scale : zero, height: Math.max(0.5, Math.abs(share) * scale), class: share > 0 ? 'sk-circuit-plus' : 'sk-circuit-minus' })),
      ...values.flatMap((value, k) => [
        svg('text', { x: LEFT + (k + 0.5) * width, y: BARS + 16, 'text-anchor': 'middle', class: 'sk-circuit-token' }, shown.tokens[k]),
        svg('text', { x: LEFT + (k + 0.5) * width, y: BARS + 33, 'text-anchor': 'middle', class: 'sk-circuit-value' }, value.toFixed(1)),
      ]));
  }
  function draw() {
    const answer = answerTo(model.get('answers'), choice), ablated = choice.ablated.split(' ').filter(Boolean).map(Number);
    shown = answer ?? shown;
    const isOld = answer === null;
    stage.classList.toggle('sk-circuit-old', isOld);
    if (shown) {
      const without = shown.ablated ? `, ${shown.ablated.split(' ').length} ablated` : '';
      title.textContent = `${graph.edges.length} weights do the task with a loss of ${shown.loss.toFixed(3)} nats${without}`;
    }
    const says = shown?.says.map(([word, chance]) => `${word} (${percent(chance)})`).join(', ');
    line.textContent = isMute && isOld ? 'Several ablated nodes, or a text of your own, need a kernel. Open this notebook in JupyterLab.'
      : isGone ? 'The kernel was restarted. Run the cell again.' : model.get('problem') || (isOld ? 'Computing ...' : `After your text comes ${says}.`);
    nodes.forEach((group, at) => {
      const isOut = ablated.includes(at);
      group.classList.toggle('sk-circuit-out', isOut);
      group.classList.toggle('sk-circuit-here', at === hover);
      if (!graph.fixed.includes(at)) group.setAttribute('aria-pressed', String(isOut));
    });
    graph.edges.forEach((edge, k) => lines[graph.streams.length + k].classList.toggle('sk-circuit-cut', ablated.includes(edge.from) || ablated.includes(edge.to)));
    if (document.activeElement !== text && text.value !== choice.text) text.value = choice.text;
    text.disabled = isMute || isGone;
    whole.disabled = isGone || choice.ablated === '';
    drawBars();
    countDrawing(stage);
  }
  const schedule = oncePerFrame(draw);
  model.on('change:choice', () => { if (timer === null) { choice = { ...model.get('choice') }; schedule(); } });
  for (const trait of ['answers', 'problem']) model.on(`change:${trait}`, schedule);
  whenKernelGoes(model, () => { isGone = true; schedule(); });
  draw();
  return () => clearTimeout(timer);
}
export default { render };
