// Scores over time as a line, with the limits of a watch and its events.
import { two } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 100;

function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Draws a watch into an <svg>. */
export function draw(svg, watch) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const y = (p) => HEIGHT - 4 - p * (HEIGHT - 8);
  const points = watch.points;
  const grows = points.every(([t], i) => !i || t > points[i - 1][0]);
  const first = points.length ? points[0][0] : 0;
  const last = points.length ? points[points.length - 1][0] : 1;
  // Where time jumps back the chunks stand side by side in their order.
  const x = (i) => (points.length < 2 ? WIDTH : grows ? ((points[i][0] - first) / (last - first)) * WIDTH : (i / (points.length - 1)) * WIDTH);
  const low = Math.max(0, watch.threshold - watch.hysteresis);
  const parts = [
    shape("rect", { class: "band", x: 0, width: WIDTH, y: y(watch.threshold), height: Math.max(0, y(low) - y(watch.threshold)) }),
    shape("line", { class: "threshold", x1: 0, x2: WIDTH, y1: y(watch.threshold), y2: y(watch.threshold) }),
  ];
  for (const [stamp, fired] of watch.marks) {
    const i = points.findLastIndex(([t]) => Math.abs(t - stamp) < 1e-3);
    if (i >= 0) parts.push(shape("line", { class: fired ? "fired" : "ended", x1: x(i), x2: x(i), y1: 0, y2: HEIGHT }));
  }
  const line = points.map(([, p], i) => `${x(i).toFixed(1)},${y(p).toFixed(1)}`).join(" ");
  parts.push(shape("polyline", { class: "line", points: points.length === 1 ? `0,${y(points[0][1])} ${line}` : line }));
  svg.replaceChildren(...parts);
  svg.setAttribute("aria-label",
    `Probability over ${(last - first).toFixed(0)} s, now ${two(watch.probability)}; threshold ${watch.threshold}`);
}
