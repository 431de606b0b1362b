// Search the sections of all pages. Every word must occur, and headings count more than text.

const index = JSON.parse(document.getElementById('index').textContent), up = '../'.repeat(Number(document.body.dataset.depth ?? 0));
const query = document.getElementById('query'), hits = document.getElementById('hits'), found = document.getElementById('found');
const lower = index.map(([, page, title, text]) => [`${page} ${title}`.toLowerCase(), text.toLowerCase()]);

function ranked(words) {
  const scores = lower.map(([title, text], at) => {
    if (!words.every(word => title.includes(word) || text.includes(word))) return [0, at];
    return [words.reduce((sum, word) => sum + (title.includes(word) ? 10 : 0) + Math.min(5, text.split(word).length - 1), 0), at];
  });
  return scores.filter(([score]) => score > 0).sort((a, b) => b[0] - a[0]).map(([, at]) => index[at]);
}

/** Return a few words around the first place where one of the words occurs. */
function extract(text, words) {
  const at = Math.max(0, Math.min(...words.map(word => text.toLowerCase().indexOf(word)).filter(place => place >= 0)));
  const from = Number.isFinite(at) ? Math.max(0, at - 40) : 0;
  return `${from ? '… ' : ''}${text.slice(from, from + 130)}${text.length > from + 130 ? ' …' : ''}`;
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

let chosen = -1;
function choose(at) {
  const options = [...hits.children];
  chosen = options.length ? (at + options.length) % options.length : -1;
  options.forEach((one, k) => one.setAttribute('aria-selected', String(k === chosen)));
  if (chosen >= 0) { query.setAttribute('aria-activedescendant', options[chosen].id); options[chosen].scrollIntoView({ block: 'nearest' }); }
  else query.removeAttribute('aria-activedescendant');
}
function show() {
  const words = query.value.toLowerCase().split(/\s+/).filter(word => word.length > 1), results = words.length ? ranked(words) : [];
  hits.replaceChildren(...results.slice(0, 12).map(([address, page, title, text], k) =>
    element('li', { role: 'option', id: `hit-${k}`, 'aria-selected': 'false', 'data-href': up + address },
      element('b', {}, title), element('small', {}, page === title ? '' : page), element('span', {}, extract(text, words)))));
  hits.hidden = !results.length;
  query.setAttribute('aria-expanded', String(!hits.hidden));
  found.textContent = words.length ? `${results.length} sections found` : '';
  choose(results.length ? 0 : -1);
}
const close = () => { hits.hidden = true; query.setAttribute('aria-expanded', 'false'); };
const go = option => { close(); location.href = option.dataset.href; };

query.addEventListener('input', show);
query.addEventListener('focus', () => { if (query.value) show(); });
query.addEventListener('keydown', event => {
  if (event.key === 'Escape') close();
  else if (event.key === 'ArrowDown' || event.key === 'ArrowUp') { event.preventDefault(); choose(chosen + (event.key === 'ArrowDown' ? 1 : -1)); }
  else if (event.key === 'Enter' && hits.children[chosen]) go(hits.children[chosen]);
});
hits.addEventListener('click', event => { const option = event.target.closest('li'); if (option) go(option); });
document.addEventListener('pointerdown', event => { if (!event.target.closest('.search')) close(); });
