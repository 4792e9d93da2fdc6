// The lanes of the time axis. A lane has a height and three methods: `draw(axis, top)` draws it below a height,
// `values(frame)` returns what is written at its right, [text, colour of the theme] a line, and
// `explain(frame, time_s)` the lines of text for the pointer.
//
// `axis` has the context, `x(time_s)`, and `frames`, the visible range of frames [first, last].

/** Text and scale at the left of a lane. */
function drawLaneTitle(axis, title, unit, top, height, most = null) {
  writeText(axis.context, title, 8, top + 9, themeColour("text"));
  if (unit) writeText(axis.context, unit, 8, top + 23, themeColour("dim"));
  if (most !== null) writeText(axis.context, most, axis.left - 6, top + 7, themeColour("dim"), "right");
  axis.context.fillStyle = themeColour("grid");
  axis.context.fillRect(axis.left, top + height, axis.right - axis.left, 1);
}

/** Draw one value a frame as steps; a gap where it is null. */
function drawSteps(axis, run, value, y, colour) {
  const { context } = axis;
  context.strokeStyle = colour;
  context.lineWidth = 1.6;
  context.beginPath();
  let connected = false;
  for (let frame = axis.frames[0]; frame <= axis.frames[1]; frame += 1) {
    const height = value(frame);
    if (height !== null) {
      const [x, end] = [frame, frame + 1].map((number) => axis.x(number / run.clip.fps));
      connected ? context.lineTo(x, y(height)) : context.moveTo(x, y(height));
      context.lineTo(end, y(height));
    }
    connected = height !== null;
  }
  context.stroke();
}

/** Capacity of the uplink, and what each upload got of it. */
class CapacityLane {
  height = 40;

  constructor(run) {
    this.run = run;
    // A round-trip time that falls during an upload makes it look as if it took no time: the trace gives the scale.
    const measured = run.offloads.map((offload) => offload.uplink_mbps.actual ?? 0);
    this.most = Math.max(1, ...(run.capacity?.uplink_mbps ?? measured));
  }

  draw(axis, top) {
    const { run } = this;
    const y = linear(0, this.most, top + this.height, top + 4);
    drawLaneTitle(axis, "uplink", "Mbps", top, this.height, this.most.toFixed(0));
    const { time_s: starts, uplink_mbps: rates } = run.capacity ?? { time_s: [], uplink_mbps: [] };
    axis.context.fillStyle = themeColour("capacity");
    for (const [row, start] of starts.entries()) {
      const [from, to] = [axis.x(start), axis.x(starts[row + 1] ?? run.length_s)];
      axis.context.fillRect(from, y(rates[row]), to - from + 0.5, top + this.height - y(rates[row]));
    }
    axis.context.fillStyle = themeColour("text");
    for (const offload of run.offloads.filter((each) => each.uplink_mbps.actual !== null)) {
      const start = offload.start_s + (offload.stages_s[0] ?? 0);
      const [from, to] = [axis.x(start), axis.x(start + (offload.stages_s[1] ?? 0))];
      axis.context.fillRect(from, y(Math.min(offload.uplink_mbps.actual, this.most)) - 1, Math.max(to - from, 2), 2);
    }
  }

  values(frame) {
    return [[megabits(this.run.capacityAt(this.run.time(frame))), "text"]];
  }

  explain(frame) {
    const offload = this.run.offloadAt(frame);
    const upload = offload ? [`upload of offload ${offload.offload_id}: ${megabits(offload.uplink_mbps.actual)}`] : [];
    return [`capacity ${this.values(frame)[0][0]}`, ...upload];
  }
}

/** Offloads as bars of their stages. */
class OffloadLane {
  static ROW = 15;
  static LABEL = 13;

  constructor(run, title = "offloads") {
    this.run = run;
    this.title = title;
    this.rows = this.#rows();
    this.height = (Math.max(0, ...this.rows) + 1) * OffloadLane.ROW + OffloadLane.LABEL + 4;
  }

  draw(axis, top) {
    drawLaneTitle(axis, this.title, "τ_d/quality/point", top, this.height);
    let free = -Infinity; // where the next label may start
    for (const [index, offload] of this.run.offloads.entries()) {
      const y = top + OffloadLane.LABEL + this.rows[index] * OffloadLane.ROW;
      const from = axis.x(offload.start_s);
      if (offload.status === "ok") this.#stages(axis, offload, y);
      else this.#loss(axis, offload, index, y);
      if (from < axis.left || from < free) continue;
      const text = label(offload);
      writeText(axis.context, text, from, top + 7, themeColour("dim"));
      free = from + axis.context.measureText(text).width + 6;
    }
  }

  values(frame) {
    const offload = this.run.offloadAt(frame);
    return [[offload ? milliseconds(offload.e2e_latency_s.actual) : DASH, "text"]];
  }

  explain(frame, time_s) {
    const offload = this.run.offloads.findLast((each) => each.start_s <= time_s);
    if (!offload) return [];
    const stages = this.run.legend.stages.map(({ name }, index) => `${name} ${milliseconds(offload.stages_s[index])}`);
    const arrived = offload.status === "ok";
    return [
      `offload ${offload.offload_id} of frame ${offload.frame}: ${inWords(offload)}`,
      arrived ? `E2E ${milliseconds(offload.e2e_latency_s.actual)}` : `${offload.status}: ${offload.lost_because}`,
      stages.join(" · "),
    ];
  }

  #stages(axis, offload, y) {
    let start = offload.start_s;
    for (const [index, duration] of offload.stages_s.entries()) {
      const end = start + (duration ?? 0);
      axis.context.fillStyle = this.run.legend.stages[index].colour;
      axis.context.fillRect(axis.x(start), y, Math.max(axis.x(end) - axis.x(start), 0.5), OffloadLane.ROW - 2);
      start = end;
    }
  }

  /** A lost offload: an outline up to the next one, or to the end. */
  #loss(axis, offload, index, y) {
    const until = this.run.offloads[index + 1]?.start_s ?? this.run.length_s;
    const [from, to] = [axis.x(offload.start_s), axis.x(until)];
    axis.context.strokeStyle = themeColour("bad");
    axis.context.setLineDash([4, 3]);
    axis.context.strokeRect(from + 0.5, y + 0.5, to - from - 2, OffloadLane.ROW - 3);
    axis.context.setLineDash([]);
    writeText(axis.context, offload.status, from + 4, y + 7, themeColour("bad"));
  }

  /** The row of each offload: the first in which the one before has ended, but for the rounding of times. */
  #rows() {
    const ends = [];
    return this.run.offloads.map((offload) => {
      const free = ends.findIndex((end) => end <= offload.start_s + 1e-3);
      const row = free < 0 ? ends.length : free;
      ends[row] = this.run.arrival_s(offload) ?? offload.start_s;
      return row;
    });
  }
}

/** One value a frame of one or more runs. */
class ValueLane {
  /**
   * @param {string} title
   * @param {string} unit
   * @param {Array<{run: Run, colour: string, value: function(Run, number): ?number}>} series colours of the theme
   * @param {object} options `most` fixes the upper end of the scale; `text` writes a value
   */
  constructor(title, unit, series, { most = null, text = (value) => quantity(value, unit) } = {}) {
    Object.assign(this, { title, unit, series, text, height: 40 });
    const values = series.flatMap(({ run, value }) => run.frames.captured.map((_, frame) => value(run, frame) ?? 0));
    this.most = most ?? values.reduce((a, b) => Math.max(a, b), 1e-9);
  }

  draw(axis, top) {
    const y = linear(0, this.most, top + this.height, top + 4);
    drawLaneTitle(axis, this.title, this.unit, top, this.height, this.text(this.most).split("\u00a0")[0]);
    for (const { run, colour, value } of this.series) {
      drawSteps(axis, run, (frame) => value(run, frame), y, themeColour(colour));
    }
  }

  values(frame) {
    return this.series.map(({ run, colour, value }) => [this.text(value(run, frame)), colour]);
  }

  explain(frame) {
    return this.series.map(({ run, value }) => `${run.policy}: ${this.title} ${this.text(value(run, frame))}`);
  }
}

/** Some of the frames as ticks, such as those that the camera lost. */
class TickLane {
  height = 14;

  /**
   * @param {Run} run
   * @param {string} title
   * @param {boolean[]} marked whether each frame is one of them
   * @param {string} colour of the theme
   * @param {string} effect what became of such a frame: "was lost by the camera"
   */
  constructor(run, title, marked, colour, effect) {
    Object.assign(this, { run, title, marked, colour, effect });
    this.total = marked.filter(Boolean).length;
  }

  draw(axis, top) {
    drawLaneTitle(axis, this.title, "", top, this.height);
    const { clip } = this.run;
    const width = Math.max(axis.x(1 / clip.fps) - axis.x(0), 1.5);
    axis.context.fillStyle = themeColour(this.colour);
    for (let frame = axis.frames[0]; frame <= axis.frames[1]; frame += 1) {
      if (this.marked[frame]) axis.context.fillRect(axis.x(frame / clip.fps), top + 2, width, 11);
    }
  }

  values() {
    return [[String(this.total), "text"]];
  }

  explain(frame) {
    return this.marked[frame] ? [`frame ${frame} ${this.effect}`] : [];
  }
}
