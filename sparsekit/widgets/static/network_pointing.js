// What happens when the reader points at a living network, by mouse, finger or arrow keys.

/** Listen to the graph of a view. `does` has what follows: touch, lesion, without, tell and schedule. Returns `point` and `explain`. */
export function listenToGraph(view, does) {
  const { part, state } = view;
  const isSame = (a, b) => a?.unit === b?.unit && a?.link?.at === b?.link?.at;

  /** Show the paths of what lies at (x, y), and say its numbers. */
  function point(target, x = 0, y = 0) {
    const changes = !isSame(target, state.hover);
    state.hover = target;
    for (const one of [part.lines, part.spare, part.strong]) one.style.opacity = target ? 0.13 : 1;
    part.flash.style.opacity = target ? 0 : 1;
    part.graph.style.cursor = target ? 'pointer' : 'default';
    if (changes) { explain(target); does.schedule(); }
    if (!target) return;
    const width = part.tip.offsetWidth;
    part.tip.style.left = `${clamp(x - width / 2, 0, view.geo.width - width)}px`;
    part.tip.style.top = `${y < 44 ? y + 20 : y - 40}px`;
  }
  /** Say the numbers of a unit or connection, among them what it is worth: the test is repeated without it. */
  function explain(target) {
    const { chain, onPath } = view.now, unit = target?.unit;
    const isSilent = !target || (unit !== undefined && (unit >= chain.outputs || state.cutUnits.has(unit) || !onPath[unit]));
    const said = target ? targetWords(Object.assign(view.now, { cutUnits: state.cutUnits }), target, isSilent ? null : does.without(target)) : null;
    state.told = said && [said.bold, said.text];
    part.tip.textContent = said?.tip ?? '';
    part.tip.style.opacity = said?.tip ? 1 : 0;
    does.tell();
  }
  const spot = event => { const box = part.graph.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const targetAt = (x, y) => nearest(view.geo, view.now.chain, view.now.links, x, y);
  part.graph.addEventListener('pointermove', event => {
    if (event.pointerType === 'touch') return;
    const [x, y] = spot(event);
    point(targetAt(x, y), x, y);
  });
  part.graph.addEventListener('pointerleave', () => point(null));
  part.graph.addEventListener('click', event => {
    does.touch();
    const [x, y] = spot(event), target = targetAt(x, y);
    if (target && isSame(target, state.hover)) does.lesion(target);
    else point(target, x, y); // with a finger we first look, and then cut
  });
  part.graph.addEventListener('keydown', event => {
    if (event.key === 'Escape') { state.focus = null; return point(null); }
    const isCut = event.key === 'Enter' || event.key === ' ', by = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    if (!isCut && !by) return;
    event.preventDefault();
    does.touch();
    if (isCut) return state.focus === null ? null : does.lesion({ unit: state.focus });
    state.focus = unitBeside(view, view.geo.tall ? [by[1], by[0]] : by);
    if (state.focus === null) return;
    point({ unit: state.focus }, view.geo.at[2 * state.focus], view.geo.at[2 * state.focus + 1]);
    part.live.textContent = part.what.textContent;
  });
  return { point, explain };
}

/** Return the working unit that lies so many columns and units from the focused one. Idle units are passed over. */
function unitBeside({ now, state, geo }, [columns, units]) {
  const { chain, onPath } = now, last = chain.units.length - 1, across = geo.tall ? 0 : 1;
  const walk = column => Array.from({ length: chain.units[column] }, (_, k) => chain.first[column] + k)
    .filter(unit => column === last || onPath[unit] || state.cutUnits.has(unit))
    .sort((a, b) => geo.at[2 * a + across] - geo.at[2 * b + across]);
  if (state.focus === null) return walk(1)[0] ?? walk(last)[0];
  const column = columnOf(chain, state.focus), to = clamp(column + columns, 1, last), here = walk(column), there = walk(to), k = here.indexOf(state.focus);
  if (!there.length) return state.focus;
  return there[clamp(to === column ? k + units : Math.round((k / here.length) * there.length), 0, there.length - 1)];
}
