// The page of one run.

function runPage() {
  const run = Run.from("run");
  const tip = new Tip();
  const source = videoSource();
  const stage = new Stage(run);
  const layers = new Layers([run], () => player.draw());
  const seek = (frame) => { player.pause(); player.go(frame); };
  const panel = new OffloadPanel(run, tip, source, seek);
  const timeline = new Timeline(run, runLanes(run), tip, seek);
  const onFrame = (frame) => {
    stage.describe(frame);
    panel.go(frame);
    timeline.go(frame);
  };
  const player = new Player(run, source, onFrame, (frame, image) => stage.draw(frame, image, layers.layers));
  document.getElementById("page").append(
    element("header", {}, pageTitle(run.policy, run), metricList(run)),
    element(
      "div.columns",
      {},
      element("div.column", {}, element("section.card.main", {}, stage.node, player.node, layers.node), timeline.node),
      panel.node,
    ),
    element(
      "section.more",
      {},
      folded("Offloads as a table", offloadTable(run)),
      ...aboutRun(run),
      folded("Keys", table([], KEYS)),
    ),
  );
  listenToKeys(player, (step) => nextOffloadFrame([run], player.frame, step), layers.toggles);
  start(player, [timeline, panel]);
}

function runLanes(run) {
  const age = [{ run, colour: "age", value: (each, frame) => each.age_s(frame) }];
  const f1 = [{ run, colour: "f1", value: (each, frame) => each.frames.f1[frame] }];
  const lanes = [
    new CapacityLane(run),
    new OffloadLane(run),
    new ValueLane("age of boxes", "ms", age, { text: milliseconds }),
  ];
  if (run.has_references) lanes.push(new ValueLane("F1 per frame", "", f1, { most: 1, text: score }));
  const { captured, declined = [] } = run.frames;
  if (declined.some(Boolean)) {
    lanes.push(new TickLane(run, "declined frames", declined, "dim", "was declined: the policy offloaded nothing"));
  }
  return [...lanes, new TickLane(run, "lost frames", captured.map((each) => !each), "bad", "was lost by the camera")];
}

runPage();
