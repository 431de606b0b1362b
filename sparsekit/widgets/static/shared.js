// Several widgets share these small functions. Python puts this file in front of each widget's own, so nothing is imported.

const TAKES_KEYS = ['button', 'input', 'select'];

/**
 * Make an element with attributes from an object and with elements or text as children.
 * What takes the keyboard keeps its arrow keys, because JupyterLab would use them to move between cells.
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (TAKES_KEYS.includes(tag) || 'tabindex' in attributes) element.setAttribute('data-lm-suppress-shortcuts', 'true');
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children);
  return element;
}

let labels = 0;

/** Put a label beside its control, because a label around a list would read its options out as well. */
export function labelled(text, control) {
  control.id = `sk-${Math.random().toString(36).slice(2)}-${labels++}`;
  return [make('label', { class: 'sk-label', for: control.id }, text), control];
}

/** Put a widget where JupyterLab wants it. */
export function mount(el, ...children) {
  el.classList.add('sk');
  el.append(...children);
}

/** Return the bytes of a DataView into a larger message, whose offset counts. */
export function bytesOf(view) {
  return view ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : new Uint8Array(0);
}

/** Return '#rrggbb' as the 32-bit number that a canvas stores (alpha, blue, green and red in little endian). */
export function rgba(hex) {
  const value = parseInt(hex.slice(1), 16);
  return ((255 << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

/** Return eight pixels for each of the 256 bytes, so that drawing asks once per byte and not once per bit. */
export function byteTable(off, on) {
  const table = new Uint32Array(2048);
  for (let byte = 0; byte < 256; byte++) {
    for (let bit = 0; bit < 8; bit++) table[byte * 8 + bit] = (byte >> (7 - bit)) & 1 ? on : off;
  }
  return table;
}

/** Draw packed rows, each of which starts a byte of its own, as one pixel per position. */
export function paintRows(pixels, bytes, rows, cols, table) {
  const whole = cols >> 3, rest = cols & 7;
  let from = 0, to = 0;
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < whole; k++, to += 8) {
      const entry = bytes[from++] * 8;
      pixels[to] = table[entry]; pixels[to + 1] = table[entry + 1];
      pixels[to + 2] = table[entry + 2]; pixels[to + 3] = table[entry + 3];
      pixels[to + 4] = table[entry + 4]; pixels[to + 5] = table[entry + 5];
      pixels[to + 6] = table[entry + 6]; pixels[to + 7] = table[entry + 7];
    }
    if (rest) {
      const entry = bytes[from++] * 8;
      for (let bit = 0; bit < rest; bit++) pixels[to++] = table[entry + bit];
    }
  }
}

/** Answer several changes with one drawing, at most one per screen frame. */
export function oncePerFrame(draw) {
  let queued = false;
  return () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => { queued = false; draw(); });
  };
}

/** Call back when the reader changes JupyterLab's theme. Returns a function that stops this. */
export function onTheme(callback) {
  const watcher = new MutationObserver(callback);
  watcher.observe(document.body, { attributes: true, attributeFilter: ['data-jp-theme-light', 'data-jp-theme-name', 'class'] });
  return () => watcher.disconnect();
}

/** Make a canvas of one pixel per position, which the page shows at another size. */
export function pixelCanvas(rows, cols, width, height) {
  const canvas = make('canvas', { width: cols, height: rows, role: 'img' });
  const smooth = width < cols || height < rows;
  canvas.style.cssText = `width:${width}px;height:${height}px;image-rendering:${smooth ? 'auto' : 'pixelated'}`;
  const context = canvas.getContext('2d');
  const image = context.createImageData(cols, rows);
  return { canvas, pixels: new Uint32Array(image.data.buffer), show: () => context.putImageData(image, 0, 0) };
}

/** Prepare a canvas for lines and text, sharp on dense screens and in the theme's text colour. */
export function lineCanvas(canvas, width, height) {
  const ratio = globalThis.devicePixelRatio || 1;
  canvas.width = width * ratio; canvas.height = height * ratio;
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  context.fillStyle = context.strokeStyle = style.color;
  context.font = `12px ${style.fontFamily}`;
  return context;
}

/** Return about `count` round numbers between low and high. */
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find(k => k * power >= rough * 0.999) * power;
  const numbers = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) numbers.push(+(k * step).toPrecision(12));
  return numbers;
}

/** Count the finished drawings, which is what a browser test waits for. */
export function countDrawing(element) {
  element.dataset.seq = Number(element.dataset.seq || 0) + 1;
}

/** Return the current value of a colour of the palette, `token(el, 'ink')`, inside a mounted element. */
export function token(element, name) {
  return getComputedStyle(element).getPropertyValue(`--sk-${name}`).trim();
}

/** Move labels apart that would lie on each other, from top to bottom, and return their heights in the given order. */
export function spread(heights, gap, lowest) {
  const order = heights.map((_, index) => index).sort((a, b) => heights[a] - heights[b]), out = [...heights];
  order.forEach((index, k) => { if (k) out[index] = Math.max(out[index], out[order[k - 1]] + gap); });
  let limit = lowest;
  for (const index of [...order].reverse()) { out[index] = Math.min(out[index], limit); limit = out[index] - gap; }
  return out;
}

export const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
export const ease = t => (t < 0.5 ? 4 * t * t * t : 1 - (2 - 2 * t) ** 3 / 2);
const numbers = new Intl.NumberFormat('en-US'); // made once, because that costs more than all that it writes
export const grouped = number => numbers.format(Math.round(number));
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
export const prefersStill = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

/** Make an SVG element, as `make` makes others. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children);
  return element;
}

/** Prepare a canvas of device pixels that is drawn on in CSS pixels. */
export function sharpen(canvas, width, height) {
  const ratio = globalThis.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  const pen = canvas.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

/**
 * Let arrow keys, Home, End, PageUp and PageDown move an element of role slider. Several keys may come before the next
 * drawing, of which `get` knows, so each continues from where the one before went.
 */
export function keys(element, { min, max, step = 1, big = 5, get, set }) {
  let latest = null;
  element.addEventListener('keydown', event => {
    const by = { ArrowRight: step, ArrowUp: step, ArrowLeft: -step, ArrowDown: -step, PageUp: big, PageDown: -big }[event.key];
    const from = latest ? latest.to : get();
    const to = event.key === 'Home' ? min() : event.key === 'End' ? max() : by !== undefined ? from + by : null;
    if (to === null) return;
    event.preventDefault();
    const mine = latest = { to: clamp(to, min(), max()) };
    requestAnimationFrame(() => requestAnimationFrame(() => { if (latest === mine) latest = null; }));
    set(mine.to);
  });
}

/** Let mouse, pen or finger press and drag: `move(x, y, event)` gets the element's own CSS pixels. */
export function drag(element, move, done = () => {}) {
  const tell = event => {
    const box = element.getBoundingClientRect();
    move(event.clientX - box.left, event.clientY - box.top, event);
  };
  element.addEventListener('pointerdown', event => { element.setPointerCapture(event.pointerId); tell(event); });
  element.addEventListener('pointermove', event => { if (element.hasPointerCapture(event.pointerId)) tell(event); });
  element.addEventListener('pointerup', done);
}

/** Make one choice of several buttons: one tab stop, arrow keys move on, `set(index)` hears of it. Returns [element, choose]. */
export function radioGroup(label, texts, set) {
  const buttons = texts.map(text => make('button', { type: 'button', role: 'radio', 'aria-checked': 'false', tabindex: -1 }, text));
  const group = make('div', { role: 'radiogroup', 'aria-label': label, class: 'sk-group' }, ...buttons);
  function choose(index) {
    buttons.forEach((button, k) => { button.setAttribute('aria-checked', String(k === index)); button.tabIndex = k === index ? 0 : -1; });
  }
  buttons.forEach((button, index) => button.addEventListener('click', () => { choose(index); set(index); }));
  group.addEventListener('keydown', event => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const to = (buttons.indexOf(document.activeElement) + by + buttons.length) % buttons.length;
    buttons[to].focus(); buttons[to].click();
  });
  return [group, choose];
}

/** Return increasing positions that Python's `write_gaps` wrote, seven bits a byte and the last byte of each below 128. */
export function positions(bytes, count, from = 0) {
  const out = new Int32Array(count);
  for (let at = from, k = 0, sum = -1; k < count; k++) {
    let gap = 0, shift = 0, byte;
    do { byte = bytes[at++]; gap |= (byte & 127) << shift; shift += 7; } while (byte > 127);
    out[k] = sum += gap + 1;
  }
  return out;
}

/** Return float16 bytes as numbers. */
export function halves(bytes, count, from = 0) {
  const out = new Float32Array(count);
  for (let k = 0; k < count; k++) {
    const h = bytes[from + 2 * k] | (bytes[from + 2 * k + 1] << 8), exponent = (h >> 10) & 31, part = h & 1023;
    const size = exponent === 31 ? (part ? NaN : Infinity) : exponent ? 2 ** (exponent - 15) * (1 + part / 1024) : (2 ** -14 * part) / 1024;
    out[k] = h >> 15 ? -size : size;
  }
  return out;
}

/** Call back once the kernel is gone, for instance after a restart, because then nothing answers a widget any more. */
export function whenKernelGoes(model, callback) {
  model.on('comm_live_update', callback);
  model.on('comm:close', callback);
}

/** Say whether a model is a recording in a page, where nobody answers. */
export const isRecorded = model => model.isRecorded === true;

/** Read bytes as 32-bit integers, which start at a multiple of four only in a copy. */
export const integers = bytes => new Int32Array(bytes.slice().buffer);
