// Paints a living network: at most once a screen frame, and only while something changes.

/** Return what has a view painted, `schedule`, and `readColours` for when the theme has changed. `view` holds all that is shown. */
export function makePainter(view) {
  const { part, motion, words, image } = view, dirty = { lines: true, graph: true, flash: true };
  let queued = 0, levels = null, wasGlowing = false, parts = null; // of a crowd that is being drawn

  function schedule(...what) {
    for (const name of what) dirty[name] = true;
    queued ||= requestAnimationFrame(tick);
  }
  function scene() {
    const { mode, hover, focus, cutUnits } = view.state, mix = clamp((performance.now() - motion.mixFrom) / FRAME_MS, 0, 1);
    return Object.assign(view.now, { geo: view.geo, colours: view.colours, mode, hover, focus, cutUnits, shares: motion.shares, mix });
  }
  function tick() {
    queued = 0;
    if (!view.geo) return;
    const drawn = scene(), age = (performance.now() - motion.flash) / FLASH_MS, isGlowing = age < 1 && !prefersStill();
    const isMixing = drawn.mix < 1 && drawn.links.length <= FEW;
    if (isGlowing || wasGlowing || dirty.flash) drawFlash(part.flash.getContext('2d'), drawn, clamp(age, 0, 1));
    if (dirty.lines || isMixing || (wasGlowing && !isGlowing)) paintLines(drawn, isGlowing);
    wasGlowing = isGlowing;
    if (parts?.next().done) showParts();
    const isMoving = paintGraph(drawn);
    Object.assign(dirty, { lines: false, flash: false });
    if (isGlowing || isMixing || isMoving || parts) schedule();
    if (isMixing) dirty.lines = true; // the last mixture is not yet the frame
    countDrawing(part.stage);
  }
  function paintLines(drawn, isGlowing) {
    const pen = part.lines.getContext('2d'), { links, cuts, frame, geo, colours } = drawn;
    if (!motion.isDragging || view.state.mode !== 'weights' || links.length <= FEW || cuts) {
      part.strong.replaceChildren();
      parts = motion.isPlaying && links.length > FEW ? crowdInParts(part.spare.getContext('2d'), drawn, isGlowing) : null;
      return parts ? undefined : drawLines(pen, drawn, isGlowing);
    }
    parts = null;
    const key = [geo.width, geo.height, colours.plus].join();
    if (levels?.key !== key || levels.frame !== frame || levels.geo !== geo) levels = { key, frame, geo, ...levelsOf(drawn) };
    const strong = drawLevel(pen, drawn, levels, links.length);
    if (part.strong.firstChild !== strong) part.strong.replaceChildren(strong);
  }
  /** Show the canvas on which a crowd was drawn, and draw the next one on the other. */
  function showParts() {
    parts = null;
    [part.lines, part.spare] = [part.spare, part.lines];
    part.lines.style.visibility = 'visible';
    part.spare.style.visibility = 'hidden';
  }
  function paintGraph(drawn) {
    const pen = part.graph.getContext('2d'), { hover, chain, geo } = drawn, paths = hover ? pathsThrough(drawn.links, hover) : null;
    const field = hover?.unit >= chain.inputs ? receptiveField(chain, drawn.links, hover.unit) : null;
    pen.clearRect(0, 0, geo.width, geo.height);
    drawInput(pen, drawn, field, view.state.strokes);
    if (paths) drawPaths(pen, drawn, paths);
    const waves = !hover && drawWave(pen, drawn, performance.now() - motion.wave), settles = settleShares(drawn);
    drawUnits(pen, drawn, paths);
    drawClasses(pen, drawn, paths);
    drawLabels(pen, drawn, field ? fieldHeading(drawn, hover.unit) : words.inputs);
    return waves || settles;
  }
  function fieldHeading({ chain }, unit) {
    const column = columnOf(chain, unit), inside = unit - chain.first[column];
    const name = unit >= chain.outputs ? words.classTitle(inside) : `unit ${inside}`;
    return `What ${name} looks for${image ? ` (dots: the ${words.example})` : ''}`;
  }
  /** Let the bars follow the probabilities by a part of the gap. Returns whether they still move. */
  function settleShares({ probability }) {
    let moves = false;
    probability.forEach((share, k) => {
      const gap = share - motion.shares[k];
      motion.shares[k] += prefersStill() || Math.abs(gap) < 0.002 ? gap : gap * 0.16;
      moves ||= Math.abs(share - motion.shares[k]) > 0.002;
    });
    return moves;
  }
  function readColours() {
    view.colours = Object.fromEntries(['paper', 'surface', 'ink', 'soft', 'line', 'faint', 'plus', 'minus'].map(name => [name, token(part.page, name)]));
    view.colours.font = getComputedStyle(part.page).fontFamily;
    schedule('lines', 'flash');
  }
  return { schedule, readColours, stop: () => cancelAnimationFrame(queued) };
}
