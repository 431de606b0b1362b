// Draw thousands of lines of a living network in the time of one screen frame.

const STRENGTHS = 24; // that can be told apart in a crowd
const TOGETHER = 40; // lines of one path, within which crossings do not grow darker
const AT_ONCE = 600; // lines that are drawn in one screen frame while a film plays
const PART = 320; // lines of about one rank, among which the order does not matter

/** Draw thousands of lines at once. */
function drawCrowd(pen, scene, isGlowing) {
  for (const _ of crowdInParts(pen, scene, isGlowing));
}

/** Draw thousands of lines, `AT_ONCE` at each call of `next`. Those of one sign and about one strength are one path, because each call costs. */
export function* crowdInParts(pen, scene, isGlowing) {
  const { geo, colours, links, frame } = scene, uses = scene.mode === 'signal', crowd = crowdOf(links.length, frame.count);
  const { classes, idle } = classesOf(scene, isGlowing, uses);
  pen.clearRect(0, 0, geo.width, geo.height);
  pen.lineCap = 'round';
  let count = 0;
  for (const [k, list] of classes.entries()) {
    if (count + list.length > AT_ONCE) { count = 0; yield; }
    count += list.length;
    drawClass(pen, geo, colours, list, k, crowd, uses);
  }
  drawIdle(pen, scene, idle, crowd);
}

function drawClass(pen, geo, colours, list, k, crowd, uses) {
  if (!list.length) return;
  const share = ((k >> 1) + 0.5) / STRENGTHS;
  pen.strokeStyle = k & 1 ? colours.plus : colours.minus;
  look(pen, share, crowd, true);
  if (uses) pen.globalAlpha = share ** 0.8;
  for (let start = 0; start < list.length; start += TOGETHER) strokeTogether(pen, geo, list.slice(start, start + TOGETHER));
}

const noClasses = () => Array.from({ length: 2 * STRENGTHS }, () => []);
const classOf = (share, isPositive) => 2 * Math.min(STRENGTHS - 1, Math.floor(share * STRENGTHS)) + (isPositive ? 1 : 0);

/** Sort lines by strength and sign, two lists for each strength from weak to strong, and those on no path apart. */
export function classesOf({ links, allLinks, onPath, chain, act }, isGlowing, uses) {
  const size = uses ? signal({ act }) : link => Math.abs(link.weight), largest = largestOf(uses ? links : allLinks, chain.shapes.length, size);
  const classes = noClasses(), idle = [];
  for (const link of links) {
    const share = Math.min(1, size(link) / largest[link.layer]);
    if (share < 0.004 || (link.born && isGlowing)) continue;
    if (!onPath[link.from] || !onPath[link.to]) idle.push(link);
    else classes[classOf(share, link.weight > 0)].push(link);
  }
  return { classes, idle };
}

/** Draw lines from strong to weak, each behind all before it, which looks the same as from weak to strong. */
function drawBehind(pen, { geo, colours, frame }, order, from, to, largest) {
  const crowd = crowdOf(FEW + 1, frame.count);
  pen.globalCompositeOperation = 'destination-over';
  pen.lineCap = 'round';
  for (let start = from; start < to; start += PART) {
    const classes = noClasses();
    for (const link of order.slice(start, Math.min(to, start + PART))) {
      classes[classOf(Math.min(1, Math.abs(link.weight) / largest[link.layer]), link.weight > 0)].push(link);
    }
    for (let k = classes.length; k--;) drawClass(pen, geo, colours, classes[k], k, crowd, false);
  }
  pen.globalCompositeOperation = 'source-over';
  pen.globalAlpha = 1;
}

/** Keep images of the strongest 900, 1,000, ... lines, of which a reader who drags needs only the difference drawn. */
export function levelsOf(scene) {
  const { allLinks, geo, chain } = scene, order = allLinks.slice().sort((a, b) => a.rank - b.rank), largest = largestOf(allLinks, chain.shapes.length);
  const steps = (globalThis.devicePixelRatio || 1) > 1 ? 8 : 16, growth = (allLinks.length / FEW) ** (1 / steps);
  const counts = Array.from({ length: steps }, (_, k) => Math.round(FEW * growth ** k)), canvas = document.createElement('canvas');
  const pen = sharpen(canvas, geo.width, geo.height);
  let done = 0;
  const images = counts.map(count => {
    drawBehind(pen, scene, order, done, count, largest);
    done = count;
    const copy = document.createElement('canvas');
    sharpen(copy, geo.width, geo.height);
    copy.getContext('2d').setTransform(1, 0, 0, 1, 0, 0);
    copy.getContext('2d').drawImage(canvas, 0, 0);
    return copy;
  });
  return { counts, images, order, largest };
}

/** Draw the weaker of the `count` strongest lines, and return the image of the stronger ones, which lies over them. */
export function drawLevel(pen, scene, levels, count) {
  let level = levels.counts.length - 1;
  while (level > 0 && levels.counts[level] > count) level--;
  pen.clearRect(0, 0, scene.geo.width, scene.geo.height);
  drawBehind(pen, scene, levels.order, levels.counts[level], count, levels.largest);
  return levels.images[level];
}
