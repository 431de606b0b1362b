// The state of a living network as one short text, which Python, a copied line of code and a saved notebook understand.

/** Return the state as words such as `step=855 kept=40 units=1.17`. What is at rest is left out. */
export function writeState(state) {
  const words = [];
  const add = (name, value) => { if (value !== null && value !== '') words.push(`${name}=${value}`); };
  add('network', state.network || null);
  add('step', state.step);
  add('kept', state.kept);
  add('lines', state.mode === 'signal' ? 'signal' : null);
  add('units', state.units.map(pair => pair.join('.')).join(','));
  add('links', state.links.map(three => three.join('.')).join(','));
  if (state.drawn) add('drawn', Array.from(state.drawn, level => Math.round(240 * level).toString(16).padStart(2, '0')).join(''));
  else add('example', state.example);
  return words.join(' ');
}

/** Return the state that such a text means. Unknown words are left out. */
export function readState(text) {
  const words = Object.fromEntries(text.split(/\s+/).filter(Boolean).map(word => word.split('=')));
  const number = name => (name in words ? Number(words[name]) : null);
  const tuples = name => (words[name] ? words[name].split(',').map(one => one.split('.').map(Number)) : []);
  const drawn = words.drawn ? Float32Array.from(words.drawn.match(/../g), level => parseInt(level, 16) / 240) : null;
  return { network: number('network') ?? 0, step: number('step'), kept: number('kept'), mode: words.lines === 'signal' ? 'signal' : 'weights',
    units: tuples('units'), links: tuples('links'), example: number('example'), drawn };
}
