// The drawing pad: strokes become an input as the training images were made, centred and scaled. Nothing here needs a network.

const FINE = 4; // points of the raster along each side of a pixel, so a pixel has 17 levels as in the digits of the data set
const PEN = 1.75 / 32; // radius of the pen, as a share of the image's height
const FILL = 28.5 / 32; // share of the height that a centred digit fills
export const WHOLE = { x: 0.5, y: 0.5, scale: 1 };

/** Return strokes in the unit square as an image of numbers from 0 to 1: the share of each pixel that is inked. */
export function rasterise(strokes, box, [height, width]) {
  const rows = FINE * height, cols = FINE * width, ink = new Uint8Array(rows * cols), reach = PEN * rows;
  const put = (x, y) => {
    for (let j = Math.max(0, Math.floor(y - reach)); j <= Math.min(rows - 1, y + reach); j++) {
      for (let i = Math.max(0, Math.floor(x - reach)); i <= Math.min(cols - 1, x + reach); i++) {
        if ((i + 0.5 - x) ** 2 + (j + 0.5 - y) ** 2 <= reach * reach) ink[j * cols + i] = 1;
      }
    }
  };
  for (const stroke of strokes) {
    stroke.forEach(([a, b], k) => {
      const [startA, startB] = stroke[Math.max(0, k - 1)], parts = 1 + Math.ceil(Math.hypot(a - startA, b - startB) * box.scale * 2 * rows);
      for (let s = 1; s <= parts; s++) {
        const x = startA + ((a - startA) * s) / parts, y = startB + ((b - startB) * s) / parts;
        put((x - box.x) * box.scale * rows + cols / 2, (y - box.y) * box.scale * rows + rows / 2);
      }
    });
  }
  const out = new Float32Array(height * width);
  for (let j = 0; j < rows; j++) for (let i = 0; i < cols; i++) out[Math.floor(j / FINE) * width + Math.floor(i / FINE)] += ink[j * cols + i] / FINE ** 2;
  return out;
}

/** Return the box in which strokes are centred and fill the height, as the digits of the data set do. */
export function fitted(strokes) {
  const xs = strokes.flat().map(point => point[0]), ys = strokes.flat().map(point => point[1]);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  return { x: (left + right) / 2, y: (top + bottom) / 2, scale: FILL / Math.max(bottom - top, (right - left) * 1.15, 0.12) };
}

/** Return the box on the way from the whole pad to another one, for `t` from 0 to 1. */
export function between(box, t) {
  return { x: 0.5 + (box.x - 0.5) * t, y: 0.5 + (box.y - 0.5) * t, scale: 1 + (box.scale - 1) * t };
}

/**
 * Let the reader draw on an element. `ink(strokes, box)` hears of every change, `begin()` of a new stroke, and `rest()` when the
 * drawing has come to rest. After a pause the next stroke begins a new drawing.
 */
export function drawingPad(element, { begin, ink, rest }) {
  let strokes = [], isDone = true, timers = [];
  const stop = () => { timers.forEach(clearTimeout); timers = []; };
  const later = (action, ms) => timers.push(setTimeout(action, ms));
  function glide(started, mine) {
    if (mine !== strokes || !strokes.length) return;
    const t = prefersStill() ? 1 : ease(clamp((performance.now() - started) / 320, 0, 1));
    ink(strokes, between(fitted(strokes), t));
    if (t < 1) requestAnimationFrame(() => glide(started, mine));
    else rest(strokes);
  }
  drag(element, (x, y, event) => {
    stop();
    if (event.type === 'pointerdown') {
      if (isDone) strokes = [];
      strokes = [...strokes, []];
      begin();
    }
    isDone = false;
    const box = element.getBoundingClientRect();
    strokes.at(-1)?.push([clamp(x / box.width, 0, 1), clamp(y / box.height, 0, 1)]);
    ink(strokes, WHOLE);
  }, () => {
    later(() => { glide(performance.now(), strokes); later(() => { isDone = true; }, 700); }, 450);
  });
  return { clear() { stop(); strokes = []; isDone = true; }, stop };
}

/** Return a signal with the value at one of its positions, and all between the last point and this one, set by the pen. */
export function bend(values, from, to) {
  const out = Float32Array.from(values), [a, b] = [from, to].sort((one, other) => one[0] - other[0]);
  for (let k = a[0]; k <= b[0]; k++) out[k] = b[0] === a[0] ? to[1] : a[1] + ((b[1] - a[1]) * (k - a[0])) / (b[0] - a[0]);
  return out;
}
