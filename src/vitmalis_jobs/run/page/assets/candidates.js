// The candidates of a decision: expected F1, or reward of bandit, over expected latency, with frontier, knee, choice and what came of it.

class CandidatePlot {
  constructor(run, tip) {
    this.run = run;
    this.tip = tip;
    this.canvas = element("canvas.candidates", { role: "img" });
    this.node = element("figure", {}, this.canvas, element("figcaption", {}, this.#legend()));
    this.canvas.addEventListener("pointermove", (event) => tip.show(event, this.#explain(event)));
    this.canvas.addEventListener("pointerleave", () => tip.hide());
  }

  /** Draw the candidates of an offload's decision. */
  draw(offload) {
    this.offload = offload;
    const context = beginPlot(this.canvas);
    this.#scale();
    this.#axes(context);
    this.#frontier(context);
    const { candidates, knee, chosen } = offload.decision;
    for (const candidate of candidates) this.#dot(context, candidate);
    this.#mark(context, candidates[knee], 5, true);
    this.#mark(context, candidates[chosen], 7, false);
    this.#actual(context);
    const choice = this.#inWords(chosen).join(", ");
    this.canvas.setAttribute("aria-label", `${candidates.length} candidates; chosen: ${choice}`);
  }

  #legend() {
    const kinds = this.run.legend.tau_d.map(({ name, colour }, tau_d) => {
      const swatch = element("span.swatch");
      swatch.style.background = colour;
      return element("span", {}, swatch, `tau_d ${tau_d}: ${name}`);
    });
    return element("span.legend", {}, ...kinds, element("span", {}, "○ chosen  ◇ knee  × actual"));
  }

  #scale() {
    const { candidates } = this.offload.decision;
    const [latency, f1] = [4, 5].map((column) => candidates.map((candidate) => candidate[column]));
    const actual = this.offload.e2e_latency_s.actual;
    const slowest = Math.max(...latency, actual ?? 0);
    const fastest = Math.min(...latency, actual ?? Infinity);
    const actual_f1 = this.#actualF1();
    const scores = [...f1, ...(actual_f1 === null ? [] : [actual_f1])];
    const [worst, best] = [Math.min(...scores), Math.max(...scores)];
    const margin = Math.max(best - worst, 0.02) * 0.08;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    this.ranges = { x: [fastest, slowest], y: [worst - margin, Math.min(1, best + margin)] };
    this.x = linear(...this.ranges.x, 40, width - 14);
    this.y = linear(...this.ranges.y, height - 32, 10);
  }

  #at([, , , , latency_s, f1]) {
    return [this.x(latency_s), this.y(f1)];
  }

  #axes(context) {
    const [dim, grid] = [themeColour("dim"), themeColour("grid")];
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const across = ticks(...this.ranges.x.map((seconds) => seconds * 1e3), 5);
    context.strokeStyle = grid;
    context.lineWidth = 1;
    for (const ms of across.values) {
      writeText(context, tickText(ms, across.step), this.x(ms / 1e3), height - 22, dim, "center");
    }
    writeText(context, "expected E2E latency, ms", width - 14, height - 8, dim, "right");
    const up = ticks(...this.ranges.y, 4);
    for (const f1 of up.values) {
      context.beginPath();
      context.moveTo(40, this.y(f1));
      context.lineTo(width - 14, this.y(f1));
      context.stroke();
      writeText(context, tickText(f1, up.step), 34, this.y(f1), dim, "right");
    }
    writeText(context, `expected ${this.#gain()}`, 40, height - 8, dim);
  }

  #frontier(context) {
    const { candidates, frontier } = this.offload.decision;
    context.strokeStyle = themeColour("dim");
    context.lineWidth = 1.2;
    context.beginPath();
    for (const index of frontier) context.lineTo(...this.#at(candidates[index]));
    context.stroke();
  }

  #dot(context, candidate) {
    context.fillStyle = this.run.legend.tau_d[candidate[0]].colour;
    context.beginPath();
    context.arc(...this.#at(candidate), 3, 0, 2 * Math.PI);
    context.fill();
  }

  /** A ring around a candidate, or a diamond. */
  #mark(context, candidate, radius, diamond) {
    const [x, y] = this.#at(candidate);
    context.strokeStyle = themeColour("chosen");
    context.lineWidth = 2;
    context.beginPath();
    if (diamond) {
      for (const [dx, dy] of [[0, -radius], [radius, 0], [0, radius], [-radius, 0]]) context.lineTo(x + dx, y + dy);
      context.closePath();
    } else context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }

  #actual(context) {
    const [latency_s, f1] = [this.offload.e2e_latency_s.actual, this.#actualF1()];
    if (latency_s === null) return;
    const x = this.x(latency_s);
    context.strokeStyle = themeColour("chosen");
    context.lineWidth = 2;
    context.beginPath();
    if (f1 === null) {
      context.moveTo(x, 10);
      context.lineTo(x, this.canvas.clientHeight - 32);
    } else {
      const y = this.y(f1);
      for (const side of [-1, 1]) {
        context.moveTo(x - 5, y - 5 * side);
        context.lineTo(x + 5, y + 5 * side);
      }
    }
    context.stroke();
  }

  /** What the candidates are expected to give. */
  #gain() {
    return this.offload.decision.expects_reward ? "reward" : "F1";
  }

  /** The F1 of the result, if it is comparable with what was expected. */
  #actualF1() {
    return this.offload.decision.expects_reward ? null : this.offload.f1.actual;
  }

  #inWords(index) {
    const { candidates, cached_regions, expects_reward } = this.offload.decision;
    const [tau_d, quality, restoration_point, bytes, latency_s, f1] = candidates[index];
    const cached = cached_regions?.[index] ? [`${count(cached_regions[index], "region")} cached`] : [];
    const costs = expects_reward && !bytes ? "size and latency unknown" : `${kibibytes(bytes)}, ${milliseconds(latency_s)}`;
    const expected = `${costs}, ${this.#gain()} ${score(f1)} expected`;
    return [inWords({ tau_d, quality, restoration_point }), ...cached, expected];
  }

  #explain({ offsetX, offsetY }) {
    const { candidates, frontier, knee, chosen } = this.offload.decision;
    const distance = candidates.map((candidate) => {
      const [x, y] = this.#at(candidate);
      return Math.hypot(x - offsetX, y - offsetY);
    });
    const nearest = distance.indexOf(Math.min(...distance));
    if (distance[nearest] > 16) return [];
    const places = [
      ["on the frontier", frontier.includes(nearest)],
      ["at the knee", nearest === knee],
      ["chosen", nearest === chosen],
    ];
    const named = places.filter(([, applies]) => applies).map(([place]) => place);
    return [...this.#inWords(nearest), ...(named.length ? [named.join(", ")] : [])];
  }
}
