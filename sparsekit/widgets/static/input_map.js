// An image of the inputs says how many units read each of them.

/** Make the image of the inputs, or nothing where they are no image. */
export function inputMap([rows, cols]) {
  if (!rows) return null;
  const side = Math.max(1, Math.floor(196 / Math.max(rows, cols))), map = pixelCanvas(rows, cols, cols * side, rows * side);
  map.canvas.classList.add('sk-mask');
  map.note = make('span', { class: 'sk-soft sk-num' });
  const caption = make('figcaption', {}, make('strong', {}, 'The pixels that are read'), map.note);
  return { ...map, rows, cols, figure: make('figure', { class: 'sk-tile sk-map' }, caption, map.canvas) };
}

/** Paint numbers as ink on paper, the largest darkest. */
export function paintHeat(map, numbers, most, element) {
  const paper = token(element, 'surface'), ink = token(element, 'ink');
  const table = Uint32Array.from({ length: most + 1 }, (_, number) => blend(paper, ink, Math.sqrt(number / most)));
  for (let at = 0; at < numbers.length; at++) map.pixels[at] = table[numbers[at]];
  map.show();
}

/** Say over which row and column of a canvas the pointer is. */
export function watchPointer(canvas, { rows, cols }, over, out) {
  canvas.addEventListener('pointermove', event => {
    const box = canvas.getBoundingClientRect();
    over(clamp(Math.floor(((event.clientY - box.top) / box.height) * rows), 0, rows - 1), clamp(Math.floor(((event.clientX - box.left) / box.width) * cols), 0, cols - 1));
  });
  canvas.addEventListener('pointerleave', out);
}
