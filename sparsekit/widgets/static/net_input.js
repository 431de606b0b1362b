// Draw the input of a living network, which is pad, image and receptive field in one, and the words around the columns.

/** Draw the input, or what a unit looks for (`field`), and the strokes of a drawing that is being made. */
export function drawInput(pen, scene, field, strokes) {
  const { geo, colours } = scene, { x, y, w, h } = geo.pad;
  pen.fillStyle = colours.surface;
  pen.beginPath();
  pen.roundRect(x, y, w, h, 10);
  pen.fill();
  const numbers = field ?? scene.ink, largest = field ? Math.max(1e-9, ...Array.from(field, Math.abs)) : 1;
  const colour = value => (!field ? colours.ink : value > 0 ? colours.plus : colours.minus);
  if (geo.image) { pen.strokeStyle = colours.line; drawPixels(pen, geo, numbers, largest, colour); }
  else drawSignal(pen, scene, field, largest);
  if (geo.image && field) drawDots(pen, scene);
  pen.lineWidth = 1;
  pen.strokeStyle = colours.faint;
  pen.beginPath();
  pen.roundRect(x + 0.5, y + 0.5, w - 1, h - 1, 10);
  pen.stroke();
  if (strokes) drawStrokes(pen, geo.pad, strokes, colours);
}

function drawPixels(pen, { pad, image: [rows, cols] }, numbers, largest, colour) {
  const cell = pad.w / cols, gap = cell > 12 ? 1 : cell > 6 ? 0.5 : 0;
  for (let k = 0; k < rows * cols; k++) {
    const value = numbers[k] / largest;
    if (Math.abs(value) < 0.004) continue;
    pen.fillStyle = colour(value);
    pen.globalAlpha = Math.min(1, Math.abs(value) ** 0.8);
    pen.beginPath();
    pen.roundRect(pad.x + (k % cols) * cell + gap, pad.y + Math.floor(k / cols) * cell + gap, cell - 2 * gap, cell - 2 * gap, cell > 12 ? 3 : 0);
    pen.fill();
  }
  pen.globalAlpha = 1;
  if (cell > 12) drawGrid(pen, pad, rows, cols);
}

function drawGrid(pen, { x, y, w, h }, rows, cols) {
  pen.lineWidth = 1;
  pen.globalAlpha = 0.55;
  pen.beginPath();
  for (let k = 1; k < cols; k++) { pen.moveTo(x + (k * w) / cols, y + 2); pen.lineTo(x + (k * w) / cols, y + h - 2); }
  for (let k = 1; k < rows; k++) { pen.moveTo(x + 2, y + (k * h) / rows); pen.lineTo(x + w - 2, y + (k * h) / rows); }
  pen.stroke();
  pen.globalAlpha = 1;
}

/** Mark the inked pixels by dots, so that a unit's field and the input are seen at once. */
function drawDots(pen, { geo: { pad, image: [rows, cols] }, ink, colours }) {
  const cell = pad.w / cols;
  pen.fillStyle = colours.ink;
  for (let k = 0; k < rows * cols; k++) {
    if (ink[k] <= 0.25) continue;
    pen.globalAlpha = Math.min(1, 0.55 * ink[k]);
    pen.beginPath();
    pen.arc(pad.x + ((k % cols) + 0.5) * cell, pad.y + (Math.floor(k / cols) + 0.5) * cell, Math.min(2.4, cell / 4), 0, 7);
    pen.fill();
  }
  pen.globalAlpha = 1;
}

/** Draw an input that is no image as a line along its numbers, and a unit's field as bars from the middle. */
function drawSignal(pen, { geo: { pad, tall }, ink, colours }, field, largest) {
  const count = ink.length, along = tall ? pad.w : pad.h, across = tall ? pad.h : pad.w, slot = along / count;
  const point = (k, value) => (tall ? [pad.x + (k + 0.5) * slot, pad.y + across * (1 - value)] : [pad.x + across * value, pad.y + (k + 0.5) * slot]);
  for (let k = 0; field && k < count; k++) {
    const [x0, y0] = point(k, 0.5), [x1, y1] = point(k, 0.5 + (0.46 * field[k]) / largest);
    pen.strokeStyle = field[k] > 0 ? colours.plus : colours.minus;
    pen.lineWidth = Math.max(1, slot - 2);
    pen.beginPath(); pen.moveTo(x0, y0); pen.lineTo(x1, y1); pen.stroke();
  }
  pen.strokeStyle = pen.fillStyle = colours.ink;
  pen.lineWidth = 1.8;
  pen.lineJoin = 'round';
  pen.beginPath();
  for (let k = 0; k < count; k++) pen[k ? 'lineTo' : 'moveTo'](...point(k, clamp(ink[k], 0.02, 0.98)));
  pen.stroke();
  for (let k = 0; k < count; k++) { pen.beginPath(); pen.arc(...point(k, clamp(ink[k], 0.02, 0.98)), Math.min(2.2, slot / 3), 0, 7); pen.fill(); }
}

function drawStrokes(pen, pad, strokes, colours) {
  pen.strokeStyle = colours.soft;
  pen.globalAlpha = 0.7;
  pen.lineWidth = 3;
  pen.lineJoin = pen.lineCap = 'round';
  for (const stroke of strokes) {
    pen.beginPath();
    stroke.forEach(([a, b], k) => pen[k ? 'lineTo' : 'moveTo'](pad.x + a * pad.w, pad.y + b * pad.h));
    pen.stroke();
  }
  pen.globalAlpha = 1;
}

/** Write what stands in each column, how many of its units are idle, and how many of the possible connections exist. */
export function drawLabels(pen, scene, heading) {
  const { geo, chain, colours, links, onPath } = scene;
  if (geo.tall) return;
  pen.fillStyle = colours.soft;
  pen.font = `12.5px ${colours.font}`;
  pen.textBaseline = 'alphabetic';
  pen.textAlign = 'left';
  pen.fillText(heading, 0, geo.pad.y - 10);
  pen.textAlign = 'center';
  const columns = chain.units.length, counts = new Int32Array(columns - 1);
  for (const link of links) counts[link.layer]++;
  for (let column = 1; column < columns - 1; column++) {
    let idle = 0;
    for (let unit = chain.first[column]; unit < chain.first[column + 1]; unit++) idle += !onPath[unit];
    pen.fillText(`${chain.units[column]} units${idle ? `, ${idle} idle` : ''}`, geo.width * geo.along[column], 14);
  }
  pen.fillText(scene.words.classes, geo.width * geo.along.at(-1) + 14, 14);
  counts.forEach((count, layer) => {
    const before = layer ? geo.along[layer] * geo.width : geo.pad.x + geo.pad.w, [outputs, inputs] = chain.shapes[layer];
    pen.fillText(`${grouped(count)} of ${grouped(outputs * inputs)}`, (before + geo.along[layer + 1] * geo.width) / 2, geo.height - 4);
  });
}
