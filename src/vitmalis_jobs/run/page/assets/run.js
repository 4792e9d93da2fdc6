// A run, and the questions that a page asks of its document.

class Run {
  /** @param {object} data the document, see vitmalis_jobs/run/page/document.py */
  constructor(data) {
    Object.assign(this, data);
    this.byNumber = new Map(this.offloads.map((offload) => [offload.offload_id, offload]));
    this.byFrame = new Map(this.offloads.map((offload) => [offload.frame, offload]));
    this.inForce = this.#offloadsInForce();
  }

  /** The run in the script element of this id. */
  static from(id) {
    return new Run(JSON.parse(document.getElementById(id).textContent));
  }

  get frameCount() {
    return this.frames.captured.length;
  }

  /** Length of the time axis, seconds. */
  get length_s() {
    return this.frameCount / this.clip.fps;
  }

  get title() {
    return `${this.policy} on ${this.clip.name} over ${this.trace}`;
  }

  time(frame) {
    return this.frames.capture_s[frame];
  }

  /** The frame on the screen at a time. */
  frameAt(time_s) {
    return Math.max(0, Math.min(this.frameCount - 1, Math.floor(time_s * this.clip.fps + 1e-6)));
  }

  /** The offload in force on a frame: the last one that had started by then; null before the first. */
  offloadAt(frame) {
    return this.inForce[frame];
  }

  /** The offload whose result the boxes of a frame stem from; null before the first result. */
  resultAt(frame) {
    const { result_offload: offloads = [], result_frame: frames } = this.frames;
    return (offloads.length ? this.byNumber.get(offloads[frame]) : this.byFrame.get(frames[frame])) ?? null;
  }

  /** Age of the boxes shown on a frame, in frames; null before the first result. */
  age(frame) {
    const result = this.frames.result_frame[frame];
    return result < 0 ? null : frame - result;
  }

  age_s(frame) {
    const age = this.age(frame);
    return age === null ? null : age / this.clip.fps;
  }

  /** When the result of an offload arrived; null for one without a result. */
  arrival_s(offload) {
    const latency_s = offload.e2e_latency_s.actual;
    return latency_s === null ? null : offload.start_s + latency_s;
  }

  /** Boxes shown on a frame that match no reference box. */
  wrong(frame) {
    return this.frames.boxes[frame].filter((box) => box[6] === false);
  }

  /** Boxes shown on a frame that match one, or could not be scored. */
  right(frame) {
    return this.frames.boxes[frame].filter((box) => box[6] !== false);
  }

  /** Reference boxes of a frame that no shown box matches. */
  missed(frame) {
    return this.frames.references[frame].filter((box) => box[6] === false);
  }

  /** The capacity of the uplink at a time, Mbps; null without a trace. */
  capacityAt(time_s) {
    if (this.capacity === null) return null;
    const row = this.capacity.time_s.findLastIndex((start) => start <= time_s + 1e-6);
    return this.capacity.uplink_mbps[Math.max(row, 0)];
  }

  /** Where an offload stood at a time: "inference", "arrived", "lost". */
  stageAt(offload, time_s) {
    if (offload.status !== "ok") return offload.status;
    let end = offload.start_s;
    for (const [index, duration] of offload.stages_s.entries()) {
      end += duration ?? 0;
      if (time_s < end) return this.legend.stages[index].name;
    }
    return "arrived";
  }

  /** What the user saw on a frame, in words. */
  caption(frame) {
    const lost = this.frames.captured[frame] ? "" : "frame lost by the camera, ";
    const age = this.age(frame);
    if (age === null) return `${lost}no result yet`;
    const kinds = { remote: "result of this frame", tracker: "tracked", stale: "not tracked" };
    const kind = kinds[this.frames.source[frame]];
    const result = this.resultAt(frame);
    const from = result === null ? "" : ` from offload ${result.offload_id}`;
    return `${lost}boxes${from}, ${kind}, ${milliseconds(this.age_s(frame))} old (${count(age, "frame")})`;
  }

  #offloadsInForce() {
    let next = 0;
    return this.frames.capture_s.map((time_s) => {
      while (next < this.offloads.length && this.offloads[next].start_s <= time_s + 1e-6) next += 1;
      return this.offloads[next - 1] ?? null;
    });
  }
}
