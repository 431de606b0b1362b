// What a living network says: its title, captions, the numbers of what the reader points at, and a table of its units.

const points = change => `${change < -0.0005 ? '−' : change > 0.0005 ? '+' : '±'}${Math.abs(100 * change).toFixed(1)}`;
const share = (value, digits = 1) => percent(value, digits).replace(' ', '\u00a0'); // a line never ends before its sign
const plural = (count, word) => `${grouped(count)} ${word}${count === 1 ? '' : 's'}`;

/** Return the title, which says what the figure shows now. */
export function titleOf({ chain, links, accuracy, accuracyWhole, cuts, kept, isFirst, isLast, frame, words }) {
  const number = grouped(links.length), task = words.task;
  if (cuts && kept === null) {
    const lost = accuracyWhole - accuracy, verb = lost < -0.0005 ? (cuts === 1 ? 'gains' : 'gain') : cuts === 1 ? 'costs' : 'cost';
    return `${cuts === 1 ? 'One cut' : `${cuts} cuts`} ${verb} ${Math.abs(100 * lost).toFixed(1)} points`;
  }
  if (kept !== null) return `${number} of ${grouped(frame.count)} ${frame.step ? 'trained ' : ''}connections are left`;
  if (isFirst && !isLast && accuracy < 2 / words.numClasses) return `${number} ${links.length < chain.size ? 'random ' : ''}connections ${words.nothing}`;
  if (!isLast) return `${number} connections learn to ${task}`;
  if (links.length === chain.size) return 'A dense network: every unit hears every unit before it';
  return accuracy > 0.85 ? `${number} connections are enough to ${task}` : `${number} connections get ${share(accuracy)} of the test ${words.examples} right`;
}

/** Return the line under the title. */
export function ledeOf({ chain, frame, frames }) {
  if (frame.count === chain.size) return 'Now take the weakest connections away, in the chart below, and watch what is left.';
  const number = share(frame.count / chain.size, frame.count < 0.1 * chain.size ? 1 : 0);
  const history = frames.at(-1).rewiring ? ' While it learned, it dropped some and grew others.' : '';
  return `${number} of the ${grouped(chain.size)} connections that could exist.${history}`;
}

/** Return the line beside the large number. */
export function scoreNote({ examples, accuracy, accuracyWhole, cuts, words }) {
  const whole = `of ${grouped(examples.count)} test ${words.examples}`;
  return cuts ? `${whole}, ${points(accuracy - accuracyWhole)} points by ${plural(cuts, 'cut')}` : `${whole} read right`;
}

/** Return what the chart of the training says. */
export function timeNote({ frame, frames, isFirst, links, gone, onPath, words }) {
  const rewirings = frames.at(-1).rewiring, born = links.filter(link => link.born).length;
  if (born || gone.length) return `Rewiring ${frame.rewiring} of ${rewirings}: ${gone.length} dropped, ${born} grown.`;
  if (isFirst) return `Start: ${plural(frame.count, 'connection')}, no training.`;
  const alive = links.filter(link => onPath[link.from] && onPath[link.to]).length;
  return `${grouped(alive)} of ${grouped(links.length)} connections lie on a path from ${words.input} to ${words.aClass}.`;
}

export function keepNote({ kept, frame, chain }) {
  if (kept === null) return 'Drag to the right, and only the strongest stay.';
  return `${grouped(kept)} of ${grouped(frame.count)} kept (sparsity ${share(1 - kept / chain.size)}).`;
}

/** Return [bold, text] about the input, where the reader points at nothing. */
export function inputWords({ probability, drawing, label, words, image }) {
  const best = probability.indexOf(Math.max(...probability)), name = words.names[best];
  const hint = image ? `draw your own in the square` : 'bend it with the pen';
  if (drawing === 'empty') return ['Draw here.', ` ${image ? `It is centred and scaled like the training ${words.examples}.` : ''}`];
  if (drawing) return [`Read as ${name}`, ` with ${share(probability[best], 0)}.${image ? ` Centred and scaled like the training ${words.examples}.` : ''}`];
  return [`Read as ${name}`, `${best === label ? ' ✓' : ` ✗ (it is ${words.names[label]})`}. A test ${words.example}, or ${hint}.`];
}

/** Return { tip, bold, text } about a unit or connection. `without` is the accuracy without it. */
export function targetWords(scene, { unit, link }, without) {
  const { chain, links, onPath, act, cutUnits, accuracy, words, image } = scene, path = `from ${words.input} to ${words.aClass}`;
  const tip = without === null ? '' : `without it ${points(without - accuracy)} points`;
  if (link) {
    const weight = `${link.weight > 0 ? '+' : '−'}${Math.abs(link.weight).toFixed(3)}`, isIdle = !onPath[link.from] || !onPath[link.to];
    const worth = isIdle ? `It is on no path ${path}.` : `Without it: ${share(without)}.`;
    return { tip, bold: `Weight ${weight}`, text: `, number ${grouped(link.rank + 1)} by strength. ${worth} Click to cut.` };
  }
  const column = columnOf(chain, unit), inside = unit - chain.first[column], ins = links.filter(one => one.to === unit).length;
  if (unit >= chain.outputs) {
    const field = image ? 'looks for blue where there is ink, orange where there is none' : 'looks for large values at blue bars, small ones at orange bars';
    return { tip: '', bold: words.classTitle(inside), text: ` ${field}. ${plural(ins, 'connection')} arrive${ins === 1 ? 's' : ''}.` };
  }
  const bold = `Unit ${inside} of column ${column}`, outs = links.filter(one => one.from === unit).length;
  if (cutUnits.has(unit)) return { tip: 'cut: click to restore', bold, text: ' is cut out. Click to restore it.' };
  if (!onPath[unit]) return { tip: 'on no path', bold, text: `: no path ${path} crosses it.${outs && act[unit] > 0 ? ' It only adds a constant.' : ''}` };
  return { tip, bold, text: `: ${ins} in, ${outs} out, now at ${act[unit].toFixed(2)}. Without it: ${share(without)}.` };
}

/** Return rows of a table of all working units: name, connections in and out, activation, accuracy without the unit. */
export function unitRows(scene, without) {
  const { chain, links, onPath, act, cutUnits } = scene, rows = [];
  for (let unit = chain.inputs; unit < chain.outputs; unit++) {
    if (!onPath[unit] && !cutUnits.has(unit)) continue;
    const column = columnOf(chain, unit), isCut = cutUnits.has(unit);
    const ends = [links.filter(one => one.to === unit).length, links.filter(one => one.from === unit).length];
    rows.push([`Unit ${unit - chain.first[column]} of column ${column}`, ...ends, act[unit].toFixed(2), isCut ? 'cut' : share(without(unit))]);
  }
  return rows;
}
