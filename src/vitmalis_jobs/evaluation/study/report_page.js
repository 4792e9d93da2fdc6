// The report: tables that sort, and plots whose points are pairs of clip and trace and lead to the pages of their runs.

const DATA = JSON.parse(document.getElementById("plots").textContent);
const RADIUS = 4.5;
const GLYPHS = { o: "●", s: "■", "^": "▲" };
const MARKERS = {
  o: (context, x, y) => context.arc(x, y, RADIUS, 0, 7),
  s: (context, x, y) => context.rect(x - RADIUS, y - RADIUS, 2 * RADIUS, 2 * RADIUS),
  "^": (context, x, y) => {
    context.moveTo(x, y - RADIUS);
    context.lineTo(x + RADIUS, y + RADIUS);
    context.lineTo(x - RADIUS, y + RADIUS);
    context.closePath();
  },
};
const REACH = 14;

/** Metrics that plots draw: title, and how a value is written. */
const METRICS = {
  rendering_f1: ["rendering F1", (value) => quantity(value, "", 3)],
  inference_f1: ["inference F1", (value) => quantity(value, "", 3)],
  e2e_latency_s_median: ["median E2E latency, s", (value) => milliseconds(value)],
};

/** Sort a table by the column whose heading is clicked; a second click reverses it. */
function makeSortable(sorted) {
  const heads = [...sorted.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const sort = () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = sorted.tBodies[0];
      const rows = [...body.rows].sort((a, b) => compareKeys(...[a, b].map((row) => row.cells[column].dataset.key)));
      body.append(...(descending ? rows.reverse() : rows));
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}

/** Numbers by value, texts by alphabet, cells without a value last. */
function compareKeys(a, b) {
  if (a === "" || b === "") return Number(a === "") - Number(b === "");
  const difference = Number(a) - Number(b);
  return Number.isNaN(difference) ? a.localeCompare(b) : difference;
}

/** A plot of all runs; those of the pair under the pointer are joined, and a click shows where their pages are. */
class PairPlot {
  constructor(place, tip, x) {
    this.tip = tip;
    this.x = x;
    this.points = DATA.pairs.flatMap((pair, index) => pair.runs.flatMap((run) => this.#point(pair, run, index)));
    this.canvas = element("canvas", {
      role: "img",
      "aria-label": `rendering F1 of every run over ${x.title}`,
      pointermove: (event) => this.#pointAt(event),
      pointerleave: () => { this.tip.hide(); this.#mark(null); },
      click: () => this.#pin(),
    });
    const hint = "Point at a run to see its pair; click it for the pages of its runs.";
    this.pinned = element("div.pinned", { "aria-live": "polite" }, hint);
    place.append(legend(), this.canvas, this.pinned);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  draw() {
    const { canvas, points } = this;
    const context = beginPlot(canvas);
    const area = { left: 46, right: canvas.clientWidth - 12, top: 10, bottom: canvas.clientHeight - 36 };
    const values = points.map(({ y }) => y);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = Math.max(0.02, (high - low) * 0.06);
    const y = linear(Math.max(0, low - margin), Math.min(1, high + margin), area.bottom, area.top);
    drawRows(context, area, y, Math.max(0, low - margin), Math.min(1, high + margin));
    const x = this.x.scale(context, area, points);
    for (const point of points) point.at = [x(point), y(point.y)];
    this.#join(context);
    for (const point of points) this.#dot(context, point);
  }

  #point(pair, run, index) {
    const y = run.metrics.rendering_f1;
    const x = this.x.value(run);
    return y === undefined || x === undefined ? [] : [{ pair, run, index, x, y }];
  }

  #dot(context, point) {
    const dimmed = this.marked && point.pair !== this.marked.pair;
    context.globalAlpha = dimmed ? 0.15 : 0.8;
    const { colour, marker } = DATA.policies[point.run.policy];
    context.fillStyle = colour;
    context.beginPath();
    MARKERS[marker](context, ...point.at);
    context.fill();
    context.globalAlpha = 1;
  }

  #join(context) {
    if (!this.marked) return;
    context.strokeStyle = themeColour("dim");
    context.beginPath();
    for (const point of this.points) if (point.pair === this.marked.pair) context.lineTo(...point.at);
    context.stroke();
  }

  #pointAt(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    const distance = ({ at: [x, y] }) => Math.hypot(event.clientX - left - x, event.clientY - top - y);
    const nearest = this.points.reduce((best, each) => (!best || distance(each) < distance(best) ? each : best), null);
    const hit = nearest && distance(nearest) < REACH ? nearest : null;
    this.#mark(hit);
    this.tip.show(event, hit ? explain(hit) : []);
  }

  #mark(point) {
    if (this.marked === point) return;
    this.marked = point;
    this.draw();
  }

  #pin() {
    if (this.marked) this.pinned.replaceChildren(...pairLinks(this.marked.pair));
  }
}

/** Horizontal lines of the scale of F1. */
function drawRows(context, area, y, low, high) {
  const { step, values } = ticks(low, high, 5);
  for (const value of values) {
    context.fillStyle = themeColour("grid");
    context.fillRect(area.left, y(value), area.right - area.left, 1);
    writeText(context, tickText(value, step), area.left - 6, y(value), themeColour("dim"), "right");
  }
  writeText(context, "rendering F1", area.left, area.top - 2, themeColour("dim"));
}

/** One column a policy, in which pairs lie side by side. */
const BY_POLICY = {
  title: "policies",
  value: (run) => run.policy,
  scale(context, area) {
    const width = (area.right - area.left) / DATA.policies.length;
    DATA.policies.forEach(({ label: text }, place) => {
      writeText(context, text, area.left + (place + 0.5) * width, area.bottom + 16, themeColour("text"), "center");
    });
    const spread = linear(-1, DATA.pairs.length, -0.36 * width, 0.36 * width);
    return ({ run, index }) => area.left + (run.policy + 0.5) * width + spread(index);
  },
};

/** A run's metric on a scale from zero. */
const byMetric = (name) => ({
  title: METRICS[name][0],
  value: (run) => run.metrics[name],
  scale(context, area, points) {
    const most = Math.max(...points.map(({ x }) => x)) * 1.05;
    const x = linear(0, most, area.left, area.right);
    const { step, values } = ticks(0, most, 8);
    for (const value of values) {
      writeText(context, tickText(value, step), x(value), area.bottom + 12, themeColour("dim"), "center");
    }
    writeText(context, METRICS[name][0], area.right, area.bottom + 27, themeColour("dim"), "right");
    return (point) => x(point.x);
  },
});

/** What the pointer is on: the pair, and every run of it. */
function explain({ pair, run }) {
  const line = (each) => {
    const known = Object.entries(METRICS).filter(([name]) => name in each.metrics);
    const numbers = known.map(([name, [title, write]]) => `${title.replace(", s", "")} ${write(each.metrics[name])}`);
    return `${each === run ? "▸ " : ""}${DATA.policies[each.policy].label}: ${numbers.join(", ")}`;
  };
  return [`${pair.clip}, ${pair.trace}`, ...pair.runs.map(line)];
}

/** Where the runs of a pair can be seen, or by which command they will be. */
function pairLinks(pair) {
  const link = (href, text) => element("a", { href, target: "_blank" }, text);
  const runs = pair.runs.map((run) => {
    const { label: text } = DATA.policies[run.policy];
    const where = run.page ? link(run.page, text) : element("span", {}, `${text}: `, element("code", {}, `vitmalis page ${run.folder}`));
    return element("li", {}, where);
  });
  const command = `vitmalis compare ${pair.compared.join(" ")} --open`;
  const pairOf = pair.comparison ? link(pair.comparison, "side by side") : element("code", {}, command);
  const both = pair.compared.length ? [element("li", {}, "two of them: ", pairOf)] : [];
  return [element("strong", {}, `${pair.clip}, ${pair.trace}`), element("ul", {}, ...runs, ...both)];
}

function legend() {
  const entry = ({ label: text, colour, marker }) =>
    element("span", {}, element("span.marker", { style: `color:${colour}` }, GLYPHS[marker]), text);
  return element("div.legend", {}, ...DATA.policies.map(entry));
}

const PLOTS = { policies: BY_POLICY, latency: byMetric("e2e_latency_s_median") };

function report() {
  const tip = new Tip();
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  for (const place of document.querySelectorAll("[data-plot]")) new PairPlot(place, tip, PLOTS[place.dataset.plot]);
}

report();
