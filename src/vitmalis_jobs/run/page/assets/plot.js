// What all plots need: colours of the page's theme, scales, ticks and a box that explains what the pointer is on.

/** Colour of the theme by the name of its CSS variable. */
const themeColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Give a canvas the pixels of the screen that it covers; returns how many there are for each CSS pixel. */
function fitCanvas(canvas) {
  const density = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * density));
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  return density;
}

/** A context of a canvas in CSS pixels, cleared. */
function beginPlot(canvas) {
  const density = fitCanvas(canvas);
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  return context;
}

/** A function that maps [from, to] linearly to [start, end]. */
function linear(from, to, start, end) {
  const slope = (end - start) / (to - from || 1);
  return (value) => start + (value - from) * slope;
}

/** About `wanted` round numbers in [from, to]. */
function ticks(from, to, wanted) {
  const rough = (to - from) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const [first, last] = [Math.ceil(from / step - 1e-9), Math.floor(to / step + 1e-9)];
  return { step, values: Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step) };
}

/** A number with as many decimals as a step of its scale needs. */
const tickText = (value, step) => value.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));

function writeText(context, text, x, y, colour, align = "left") {
  context.fillStyle = colour;
  context.textAlign = align;
  context.fillText(text, x, y);
}

/** The box next to the pointer. */
class Tip {
  constructor() {
    this.node = element("div.tip", { role: "tooltip", hidden: "" });
    document.body.append(this.node);
  }

  /** Show lines of text at an event's position, or nothing where there are none. */
  show(event, lines) {
    this.node.hidden = !lines?.length;
    if (this.node.hidden) return;
    this.node.replaceChildren(...lines.map((line) => element("div", {}, line)));
    const { offsetWidth: width, offsetHeight: height } = this.node;
    const below = event.clientY + 18;
    this.node.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    this.node.style.top = `${below + height > innerHeight ? event.clientY - height - 10 : below}px`;
  }

  hide() {
    this.node.hidden = true;
  }
}
