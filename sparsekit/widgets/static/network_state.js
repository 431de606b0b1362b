// The state of a living network as one short text, which Python, a copied line of code and a saved notebook understand.

/** Return the state as a text such as `step=855&kept=40&units=1.17`. What is at rest is left out. */
export function writeState({ network, step, kept, mode, units, links, drawn, example }) {
  const tuples = list => (list.length ? list.map(one => one.join('.')) : null);
  const letters = drawn && Array.from(drawn, level => Math.round(240 * level).toString(16).padStart(2, '0')).join('');
  return stateText({ network: network || null, step, kept, lines: mode === 'signal' ? 'signal' : null, units: tuples(units), links: tuples(links),
    drawn: letters, example: drawn ? null : example });
}

/** Return the state that such a text means. Unknown words are left out. */
export function readState(text) {
  const words = Object.fromEntries(new URLSearchParams(text));
  const number = name => (name in words ? Number(words[name]) : null);
  const tuples = name => (words[name] ? words[name].split('_').map(one => one.split('.').map(Number)) : []);
  const drawn = words.drawn ? Float32Array.from(words.drawn.match(/../g), level => parseInt(level, 16) / 240) : null;
  return { network: number('network') ?? 0, step: number('step'), kept: number('kept'), mode: words.lines === 'signal' ? 'signal' : 'weights',
    units: tuples('units'), links: tuples('links'), example: number('example'), drawn };
}
