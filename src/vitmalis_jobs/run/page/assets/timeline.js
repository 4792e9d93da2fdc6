// The time axis of a page: lanes over one scale, with a line at the frame that is shown. A click or a drag seeks.

class Timeline {
  static LEFT = 134;
  static RIGHT = 78;
  static AXIS = 24;
  static GAP = 8;

  /**
   * @param {Run} run gives the scale
   * @param {object[]} lanes see lanes.js
   * @param {Tip} tip
   * @param {function(number)} seek called with the frame under a pressed pointer
   */
  constructor(run, lanes, tip, seek) {
    Object.assign(this, { run, lanes, tip, seek, frame: 0, span_s: run.length_s });
    this.base = document.createElement("canvas");
    this.canvas = element("canvas.timeline", { role: "img", "aria-label": "time axis; the slider moves along it" });
    this.canvas.style.height = `${this.#height()}px`;
    this.node = element("section.card", {}, this.#bar(), this.canvas);
    this.canvas.addEventListener("pointerdown", (event) => this.#grasp(event));
    this.canvas.addEventListener("pointermove", (event) => this.#move(event));
    this.canvas.addEventListener("pointerleave", () => this.tip.hide());
  }

  /** Move the line to a frame. */
  go(frame) {
    this.frame = frame;
    const [from] = this.#window();
    if (this.drawnFrom !== from) this.redraw();
    else this.#drawLine();
  }

  /** Draw everything again, after a change of size, span or theme. */
  redraw() {
    const context = beginPlot(this.canvas);
    const [from, to] = this.#window();
    const [left, right] = [Timeline.LEFT, this.canvas.clientWidth - Timeline.RIGHT];
    const frames = [this.run.frameAt(from), this.run.frameAt(to)];
    this.axis = { context, left, right, x: linear(from, to, left, right), frames };
    this.drawnFrom = from;
    this.tops = [];
    this.#seconds(from, to);
    let top = 4;
    for (const lane of this.lanes) {
      this.tops.push(top);
      this.#clipped(() => lane.draw(this.axis, top));
      top += lane.height + Timeline.GAP;
    }
    [this.base.width, this.base.height] = [this.canvas.width, this.canvas.height];
    this.base.getContext("2d").drawImage(this.canvas, 0, 0);
    this.#drawLine();
  }

  #height() {
    return this.lanes.reduce((sum, lane) => sum + lane.height + Timeline.GAP, 4 + Timeline.AXIS);
  }

  /** Legend of the stages, and the choice of how much of the run is visible. */
  #bar() {
    const stages = this.run.legend.stages.map(({ name, colour }) => {
      const swatch = element("span.swatch");
      swatch.style.background = colour;
      return element("span", {}, swatch, name);
    });
    const spans = [5, 10, 30, 60].filter((span) => span < this.run.length_s);
    const options = [[this.run.length_s, "whole run"], ...spans.map((span) => [span, `${span} s`])];
    const choice = element("select", { "aria-label": "visible part of the run" });
    choice.append(...options.map(([value, text]) => element("option", { value }, text)));
    choice.addEventListener("change", () => { this.span_s = Number(choice.value); this.redraw(); });
    return element("div.bar", {}, element("span.legend", {}, ...stages), choice);
  }

  /** The visible part, [from, to] in seconds: the shown frame is in its middle as far as the run allows. */
  #window() {
    const middle = this.frame / this.run.clip.fps - this.span_s / 2;
    const from = Math.max(0, Math.min(middle, this.run.length_s - this.span_s));
    return [from, from + this.span_s];
  }

  /** Draw without writing over the numbers at the right; texts at the left stay readable over what scrolls by. */
  #clipped(draw) {
    const { context } = this.axis;
    context.save();
    context.beginPath();
    context.rect(0, 0, this.axis.right, this.canvas.clientHeight);
    context.clip();
    draw();
    context.restore();
  }

  #seconds(from, to) {
    const { context, x } = this.axis;
    const bottom = this.#height() - Timeline.AXIS;
    const { step, values } = ticks(from, to, 10);
    for (const time_s of values) {
      context.fillStyle = themeColour("grid");
      context.fillRect(x(time_s), 4, 1, bottom - 8);
      writeText(context, `${tickText(time_s, step)} s`, x(time_s), bottom + 6, themeColour("dim"), "center");
    }
  }

  #drawLine() {
    const { context, left, x } = this.axis;
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.base, 0, 0);
    context.restore();
    context.fillStyle = themeColour("playhead");
    const middle = x((this.frame + 0.5) / this.run.clip.fps);
    context.fillRect(Math.max(middle, left) - 0.75, 2, 1.5, this.#height() - Timeline.AXIS - 4);
    const edge = this.canvas.clientWidth - Timeline.RIGHT + 8;
    for (const [index, lane] of this.lanes.entries()) {
      for (const [line, [text, colour]] of lane.values(this.frame).entries()) {
        writeText(context, text, edge, this.tops[index] + 9 + 15 * line, themeColour(colour));
      }
    }
  }

  #time(event) {
    const [from, to] = this.#window();
    return linear(this.axis.left, this.axis.right, from, to)(event.offsetX);
  }

  #grasp(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.#press(event);
  }

  #press(event) {
    this.seek(this.run.frameAt(Math.max(0, this.#time(event))));
  }

  #move(event) {
    if (event.buttons & 1) this.#press(event);
    const time_s = this.#time(event);
    const lane = this.lanes[this.tops.findLastIndex((top) => top <= event.offsetY)];
    const inside = lane && time_s >= 0 && event.offsetX >= this.axis.left && event.offsetX <= this.axis.right;
    const lines = inside ? lane.explain(this.run.frameAt(time_s), time_s) : [];
    this.tip.show(event, lines.length ? [`${time_s.toFixed(2)} s`, ...lines] : []);
  }
}
