// What stands next to the frame: the offload in force, the choice of layers, facts and tables.

/** The offload in force: what was sent, what it was expected to cost and did cost, and why it was chosen. */
class OffloadPanel {
  constructor(run, tip, source, seek) {
    this.run = run;
    this.seek = seek;
    this.sent = new Stage(run);
    this.candidates = new CandidatePlot(run, tip);
    this.heading = element("h2");
    this.status = element("p.status", { "aria-live": "off" });
    this.numbers = element("div");
    this.reason = element("p.note");
    this.video = source ? hiddenVideo(source) : null;
    this.video?.addEventListener("seeked", () => this.#drawSent());
    this.video?.addEventListener("loadeddata", () => this.#seekSent());
    const back = element("button", { type: "button", click: () => this.seek(this.offload.frame) }, "Show this frame");
    const parts = [this.status, this.numbers, this.reason, this.candidates.node, this.sent.node, back];
    this.content = element("div", {}, ...parts);
    this.node = element("section.card.panel", { "aria-label": "offload in force" }, this.heading, this.content);
    if (this.video) this.node.append(this.video);
  }

  /** Show the offload in force on a frame. */
  go(frame) {
    const offload = this.run.offloadAt(frame);
    if (offload) this.status.textContent = this.#progress(offload, this.run.time(frame));
    if (offload === this.offload) return;
    this.offload = offload;
    this.redraw();
  }

  /** Draw everything again, after a change of size or theme. */
  redraw() {
    const { offload } = this;
    this.content.hidden = !offload;
    this.heading.textContent = offload ? `Offload ${offload.offload_id} · ${inWords(offload)}` : "No offload yet";
    if (!offload) return;
    this.numbers.replaceChildren(this.#table());
    this.reason.replaceChildren(...this.#why());
    this.candidates.node.hidden = !offload.decision;
    if (offload.decision) this.candidates.draw(offload);
    this.sent.captions.textContent = this.#sentence();
    this.#seekSent();
  }

  #progress(offload, time_s) {
    const stage = this.run.stageAt(offload, time_s);
    const elapsed = milliseconds(time_s - offload.start_s);
    if (stage === "arrived") return `result arrived ${milliseconds(time_s - this.run.arrival_s(offload))} ago`;
    return offload.status === "ok" ? `under way for ${elapsed}: ${stage}` : `${stage}: ${offload.lost_because}`;
  }

  #table() {
    const { offload } = this;
    const rows = [
      ["payload", kibibytes, offload.payload_bytes],
      ["uplink", megabits, offload.uplink_mbps],
      ["E2E latency", milliseconds, offload.e2e_latency_s],
      ["F1", score, offload.f1],
    ];
    const { candidates, chosen, expects_reward } = offload.decision ?? {};
    if (expects_reward) rows.push(["reward", score, { expected: candidates[chosen][5], actual: null }]);
    const cells = rows.map(([name, text, { expected, actual }]) => [name, text(expected), text(actual)]);
    return table(["", "expected", "actual"], cells);
  }

  /** The reason of the choice, and what the policy knew. */
  #why() {
    const why = this.offload.decision;
    if (!why) return [`${this.run.policy} weighs no candidates.`];
    const known = [
      `${count(why.tracked, "object")} known`,
      `frame motion ${percent(why.frame_motion)}`,
      `${count(why.frames_since_offload, "frame")} since the last offload`,
      `${percent(why.retention)} of the objects kept`,
      `RTT ${milliseconds(why.rtt_s)}`,
    ];
    const age = why.estimates_age_frames;
    if (age !== null) known.push(`sizes and F1 estimated ahead, from ${count(age, "frame")} before`);
    if (why.expects_reward) known.push("reward: how well the tracked boxes will agree with the next result");
    const reason = element("strong", {}, this.run.legend.reasons[why.reason] ?? why.reason);
    const number = `${why.candidates.length} candidates, ${why.frontier.length} on the frontier; chosen: `;
    return [number, reason, `. ${known.join(", ")}.`];
  }

  #sentence() {
    const { offload, run } = this;
    const low = `${offload.low_regions.length} of ${run.clip.regions.length} regions`;
    const factor = `1/${offload.low_factor} of the resolution`;
    const marked = Object.values(offload.marked_regions ?? {}).flat().length;
    const whole = marked ? "the others" : "all regions";
    const regions = offload.low_regions.length ? `${low} at ${factor}` : `${whole} at full resolution`;
    const marks = Object.entries(offload.marked_regions ?? {}).map(([mark, all]) => `, ${all.length} ${mark}`).join("");
    const coarse = offload.coarse_areas?.length ? `, ${offload.coarse_quality} in the tinted macroblocks` : "";
    return `Frame ${offload.frame} as it was sent: ${regions}${marks}, JPEG quality ${offload.quality}${coarse}.`;
  }

  #seekSent() {
    if (this.offload && this.video) this.video.currentTime = (this.offload.frame + 0.5) / this.run.clip.fps;
    this.#drawSent();
  }

  #drawSent() {
    const playable = isPlayable(this.video);
    if (!this.offload || (playable && isOnItsWay(this.video))) return;
    this.sent.drawOffload(this.offload, playable ? this.video : null);
    this.sent.canvas.setAttribute("aria-label", this.sent.captions.textContent);
  }
}

/** Checkboxes that switch the layers that some of the runs have; `layers` has their state by name. */
class Layers {
  constructor(runs, onChange) {
    this.layers = {};
    const absent = runs.every((run) => run.has_references) ? [] : ["wrong", "missed", "references"];
    if (!runs.some((run) => run.frames.masks.length)) absent.push("masks");
    const known = LAYERS.filter(([name]) => !absent.includes(name));
    this.toggles = known.map(([name, , , on]) => {
      const box = element("input", { type: "checkbox", id: `layer-${name}` });
      box.checked = this.layers[name] = on;
      box.addEventListener("change", () => { this.layers[name] = box.checked; onChange(); });
      return box;
    });
    const labels = known.map(([, text, about], index) => {
      return element("label", { title: `${about} (key ${index + 1})` }, this.toggles[index], text);
    });
    this.node = element("div.layers", { role: "group", "aria-label": "layers" }, ...labels);
  }
}

/** The heading of a page. */
const pageTitle = (policies, run) =>
  element("h1", {}, policies, element("small", {}, ` on ${run.clip.name} over ${run.trace}`));

const METRICS = [
  ["rendering F1", "rendering_f1", (value) => quantity(value, "", 3)],
  ["inference F1", "inference_f1", (value) => quantity(value, "", 3)],
  ["rendering F1 of masks", "rendering_mask_f1", (value) => quantity(value, "", 3)],
  ["IoU of masks", "rendering_mask_iou", (value) => quantity(value, "", 3)],
  ["boundary F1 of masks", "rendering_mask_boundary_f1", (value) => quantity(value, "", 3)],
  ["E2E latency, median", "e2e_latency_s_median", milliseconds],
  ["payload, median", "payload_kib_median", (value) => quantity(value, "KiB")],
  ["offloads", "offloads", (value) => quantity(value)],
  ["lost offloads", "lost_offloads", (value) => quantity(value)],
  ["lost frames", "lost_frames", (value) => quantity(value)],
];

/** The main metrics of a run as a row of numbers. */
function metricList(run) {
  const known = METRICS.filter(([, name]) => name in run.metrics);
  const entries = known.map(([title, name, text]) => {
    return element("div", {}, element("dt", {}, title), element("dd", {}, text(run.metrics[name])));
  });
  return element("dl.metrics", {}, ...entries);
}

/** The offloads of a run as a table, for those who read and for screen readers. */
function offloadTable(run) {
  const stages = run.legend.stages.map(({ name }) => name);
  const head = ["offload", "frame", "start", "τ_d/quality/point", ...stages, "E2E latency", "payload", "F1"];
  const rows = run.offloads.map((offload) => [
    String(offload.offload_id),
    String(offload.frame),
    quantity(offload.start_s, "s", 2),
    label(offload),
    ...offload.stages_s.map(milliseconds),
    offload.status === "ok" ? milliseconds(offload.e2e_latency_s.actual) : offload.status,
    kibibytes(offload.payload_bytes.actual),
    score(offload.f1.actual),
  ]);
  return element("div.wide", {}, table(head, rows));
}

/** Facts and stand-ins of a run, all its metrics, and the keys of the page. */
function aboutRun(run) {
  const standIns = Object.entries(run.stand_ins).map(([part, what]) => [`stand-in ${part}`, what]);
  const note = run.clip.note ? [["clip", run.clip.note]] : [];
  const rule = `same class, score from ${run.score_threshold}, overlap (IoU) from ${run.iou_threshold}`;
  const rows = [...Object.entries(run.facts), ...note, ["counts as found", rule], ...standIns];
  const facts = table([], rows, { class: "facts" });
  const metrics = Object.entries(run.metrics).map(([name, value]) => [name, String(Number(value.toPrecision(6)))]);
  return [folded("About this run", facts), folded("All metrics", table([], metrics))];
}
