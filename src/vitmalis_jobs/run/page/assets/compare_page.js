// The page of two runs of one clip and trace: one clock, both frames, and the difference of their F1.

function comparePage() {
  const runs = [Run.from("run-1"), Run.from("run-2")];
  const [first] = runs;
  const tip = new Tip();
  const stages = runs.map((run, index) => new Stage(run, `${names(runs)[index]}${inShort(run)}`));
  const layers = new Layers(runs, () => player.draw());
  const seek = (frame) => { player.pause(); player.go(frame); };
  const timeline = new Timeline(first, compareLanes(runs), tip, seek);
  const onFrame = (frame) => {
    for (const stage of stages) stage.describe(frame);
    timeline.go(frame);
  };
  const onImage = (frame, image) => { for (const stage of stages) stage.draw(frame, image, layers.layers); };
  const player = new Player(first, videoSource(), onFrame, onImage);
  const about = runs.map((run, index) => folded(`About ${names(runs)[index]}`, offloadTable(run), ...aboutRun(run)));
  document.getElementById("page").append(
    element("header", {}, pageTitle(names(runs).join(" and "), first)),
    element(
      "section.card.both",
      {},
      element("div.pair", {}, ...stages.map((stage) => stage.node)),
      player.node,
      layers.node,
    ),
    timeline.node,
    element(
      "section.more",
      {},
      element("div.wide.card", {}, metricTable(runs)),
      ...about,
      folded("Keys", table([], KEYS)),
    ),
  );
  listenToKeys(player, (step) => nextOffloadFrame(runs, player.frame, step), layers.toggles);
  start(player, [timeline]);
}

/** Names of the runs: their policies; where both are of one policy with its options if these differ, else numbered. */
function names(runs) {
  const alike = runs[0].policy === runs[1].policy;
  const said = runs.map((run) => run.facts.policy ?? "");
  if (alike && said.every(Boolean) && said[0] !== said[1]) return said;
  return runs.map((run, index) => (alike ? `${run.policy} (${index + 1})` : run.policy));
}

/** The numbers by which runs are compared first. */
function inShort({ metrics }) {
  const { rendering_f1: f1, e2e_latency_s_median: latency_s } = metrics;
  const rendering = f1 === undefined ? "" : ` · rendering F1 ${quantity(f1, "", 3)}`;
  const latency = latency_s === undefined ? "" : ` · E2E latency ${milliseconds(latency_s)} (median)`;
  return rendering + latency;
}

const COLOURS = ["first", "second"];

function compareLanes(runs) {
  const series = (value) => runs.map((run, index) => ({ run, colour: COLOURS[index], value }));
  const scored = runs.every((run) => run.has_references);
  const f1 = [
    new DifferenceLane(runs),
    new ValueLane("F1 per frame", "", series((run, frame) => run.frames.f1[frame]), { most: 1, text: score }),
  ];
  return [
    ...(scored ? f1 : []),
    new ValueLane("age of boxes", "ms", series((run, frame) => run.age_s(frame)), { text: milliseconds }),
    ...runs.map((run, index) => new OffloadLane(run, names(runs)[index])),
    new CapacityLane(runs[0]),
  ];
}

/** F1 of the second run less that of the first: bars a frame, and their mean over a second as a line. */
class DifferenceLane {
  height = 56;

  constructor(runs) {
    this.runs = runs;
    this.differences = runs[0].frames.f1.map((_, frame) => this.#difference(frame));
    this.most = Math.max(0.1, ...this.differences.map((value) => Math.abs(value ?? 0)));
  }

  draw(axis, top) {
    const { context, frames, x } = axis;
    const y = linear(-this.most, this.most, top + this.height, top);
    drawLaneTitle(axis, "F1 difference", `${names(this.runs)[1]} better`, top, this.height, `+${score(this.most)}`);
    const [fps, zero] = [this.runs[0].clip.fps, y(0)];
    context.fillStyle = themeColour("line");
    context.fillRect(axis.left, zero, axis.right - axis.left, 1);
    context.globalAlpha = 0.45;
    for (let frame = frames[0]; frame <= frames[1]; frame += 1) {
      const value = this.differences[frame] ?? 0;
      const [from, to] = [x(frame / fps), x((frame + 1) / fps)];
      context.fillStyle = themeColour(COLOURS[Number(value > 0)]);
      context.fillRect(from, zero, Math.max(to - from - 0.5, 0.5), y(value) - zero);
    }
    context.globalAlpha = 1;
    drawSteps(axis, this.runs[0], (frame) => this.#mean(frame), y, themeColour("text"));
  }

  values(frame) {
    return [[this.#signed(this.differences[frame]), "text"]];
  }

  explain(frame) {
    const each = this.runs.map((run, index) => `${names(this.runs)[index]}: F1 ${score(run.frames.f1[frame])}`);
    const [difference, mean] = [this.differences[frame], this.#mean(frame)].map(this.#signed);
    return [...each, `difference ${difference}; over a second ${mean}`];
  }

  #difference(frame) {
    const [first, second] = this.runs.map((run) => run.frames.f1[frame]);
    return first === null || second === null ? null : second - first;
  }

  /** Mean over the second around a frame; null where nothing was to be found. */
  #mean(frame) {
    const half = Math.round(this.runs[0].clip.fps / 2);
    const near = this.differences.slice(Math.max(0, frame - half), frame + half + 1).filter((value) => value !== null);
    return near.length ? near.reduce((a, b) => a + b) / near.length : null;
  }

  #signed(value) {
    return value > 0 ? `+${score(value)}` : score(value);
  }
}

/** The main metrics of both runs. */
function metricTable(runs) {
  const known = METRICS.filter(([, name]) => runs.some((run) => name in run.metrics));
  const text = (run, name, write) => (name in run.metrics ? write(run.metrics[name]) : DASH);
  const rows = known.map(([title, name, write]) => [title, ...runs.map((run) => text(run, name, write))]);
  return table(["", ...names(runs)], rows);
}

comparePage();
