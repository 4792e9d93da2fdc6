// What is drawn over a frame. Coordinates are pixels of the clip; `unit` is the length of a screen pixel in them.

const LAYERS = [
  ["boxes", "boxes shown", "boxes that the user saw and that match a reference box", true],
  ["wrong", "wrong", "boxes that the user saw and that match no reference box", true],
  ["missed", "missed", "reference boxes that no shown box matches", true],
  ["references", "reference", "boxes of the full-resolution model on this very frame", false],
  ["regions", "region types", "types of the decision regions, as the last offload saw them", false],
  ["sent", "as sent", "regions and macroblocks in the quality in which the last offload sent them", false],
  ["masks", "masks", "masks of the boxes that are drawn", true],
];
const COARSE = "#f08c00";
const MARK = "#e8eaee";
const WRONG = "#b9bec8";
const MISSED = "#ff4d4f";
const REFERENCE = "#ffffff";

/** Draw the layers that are on. */
function drawLayers(context, image, run, frame, layers, unit) {
  const offload = run.offloadAt(frame);
  if (layers.sent && offload && image) drawAsSent(context, image, run, offload, unit);
  if (layers.regions && offload) drawRegions(context, run, offload, unit);
  if (layers.masks) drawMasks(context, run, frame, layers, unit);
  const draw = (boxes, style) => drawBoxes(context, run, boxes, unit, style);
  if (layers.references) draw(run.frames.references[frame], { colour: REFERENCE, dash: [2, 3] });
  if (layers.missed) draw(run.missed(frame), { colour: MISSED, dash: [7, 5], named: "class" });
  if (layers.wrong) draw(run.wrong(frame), { colour: WRONG, named: "class" });
  if (layers.boxes) draw(run.right(frame), { named: "scored" });
}

/** Draw boxes in one colour or that of their class; `named` is "scored" for class and score, "class", or empty. */
function drawBoxes(context, run, boxes, unit, { colour = "", dash = [], named = "" } = {}) {
  context.save();
  context.lineWidth = 2 * unit;
  context.setLineDash(dash.map((length) => length * unit));
  for (const [x1, y1, x2, y2, confidence, klass] of boxes) {
    const { name, colour: own } = run.legend.classes[klass];
    const text = named === "scored" ? `${name} ${confidence.toFixed(2)}` : name;
    context.strokeStyle = colour || own;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    if (named) drawTag(context, text, x1, y1, unit, colour || own);
  }
  context.restore();
}

/** Tint the masks of the shown boxes that are drawn. */
function drawMasks(context, run, frame, layers, unit) {
  context.save();
  context.lineWidth = unit;
  for (const [index, number] of (run.frames.masks[frame] ?? []).entries()) {
    const box = run.frames.boxes[frame][index];
    const [klass, matched] = box.slice(5);
    const wrong = matched === false;
    if (!(wrong ? layers.wrong : layers.boxes)) continue;
    beginOutline(context, run.frames.outlines[number], box);
    const colour = wrong ? WRONG : run.legend.classes[klass].colour;
    context.strokeStyle = colour;
    context.fillStyle = `${colour}73`;
    context.fill("evenodd");
    context.stroke();
  }
  context.restore();
}

/** Begin a path along the outline of a mask, whose corners are in thousandths of its box. */
function beginOutline(context, outline, [x1, y1, x2, y2]) {
  context.beginPath();
  for (const corners of outline) {
    for (let i = 0; i < corners.length; i += 2) {
      const [x, y] = [x1 + ((x2 - x1) * corners[i]) / 1000, y1 + ((y2 - y1) * corners[i + 1]) / 1000];
      if (i) context.lineTo(x, y); else context.moveTo(x, y);
    }
    context.closePath();
  }
}

/** A label whose lower left corner is at a point, kept inside the frame. */
function drawTag(context, text, x, y, unit, background, colour = "#16181d") {
  context.font = `600 ${10.5 * unit}px system-ui, sans-serif`;
  const [width, height] = [context.measureText(text).width + 6 * unit, 14 * unit];
  const top = Math.max(y - height, 0);
  context.fillStyle = background;
  context.fillRect(x - unit, top, width, height);
  context.fillStyle = colour;
  context.textBaseline = "middle";
  context.fillText(text, x + 2 * unit, top + height / 2);
}

/** Tint and name the regions by the types that an offload's decision gave them. */
function drawRegions(context, run, offload, unit) {
  const types = offload.decision?.region_types;
  const low = new Set(offload.low_regions);
  const marks = new Map(Object.entries(offload.marked_regions ?? {}).flatMap(([mark, all]) => all.map((i) => [i, mark])));
  for (const [index, [left, top, right, bottom]] of run.clip.regions.entries()) {
    const resolution = low.has(index) ? `1/${offload.low_factor}` : marks.get(index) ?? "";
    if (!types && !resolution) continue;
    const { name, colour } = run.legend.region_types[types?.[index]] ?? { name: "", colour: "#ffffff" };
    context.fillStyle = `${colour}26`;
    context.strokeStyle = colour;
    context.lineWidth = unit;
    context.fillRect(left, top, right - left, bottom - top);
    context.strokeRect(left + unit, top + unit, right - left - 2 * unit, bottom - top - 2 * unit);
    drawTag(context, `${name} ${resolution}`.trim(), left + 3 * unit, top + 18 * unit, unit, "#000000b0", "#ffffff");
  }
}

/** Draw regions of low resolution with pixels of that size; mark those of which no pixels were sent, and coarse blocks. */
function drawAsSent(context, image, run, offload, unit) {
  const small = drawAsSent.canvas ??= document.createElement("canvas");
  context.save();
  context.imageSmoothingEnabled = false;
  for (const index of offload.low_regions) {
    const [left, top, right, bottom] = run.clip.regions[index];
    const [width, height] = [right - left, bottom - top];
    small.width = Math.max(1, Math.round(width / offload.low_factor));
    small.height = Math.max(1, Math.round(height / offload.low_factor));
    small.getContext("2d").drawImage(image, left, top, width, height, 0, 0, small.width, small.height);
    context.drawImage(small, left, top, width, height);
  }
  for (const index of Object.values(offload.marked_regions ?? {}).flat()) hatch(context, run.clip.regions[index], unit);
  drawCoarse(context, offload, unit);
  context.restore();
}

/** Hatch a region of which something else than its pixels was sent. */
function hatch(context, [left, top, right, bottom], unit) {
  context.save();
  context.beginPath();
  context.rect(left, top, right - left, bottom - top);
  context.clip();
  context.fillStyle = "#000000a0";
  context.fillRect(left, top, right - left, bottom - top);
  context.strokeStyle = `${MARK}90`;
  context.lineWidth = unit;
  context.beginPath();
  for (let x = left - (bottom - top); x < right; x += 8 * unit) {
    context.moveTo(x, bottom);
    context.lineTo(x + bottom - top, top);
  }
  context.stroke();
  context.restore();
}

/** Tint the macroblocks that were coded at the lower quality, and name it once. */
function drawCoarse(context, offload, unit) {
  const areas = offload.coarse_areas ?? [];
  if (!areas.length) return;
  context.fillStyle = `${COARSE}66`;
  for (const [left, top, right, bottom] of areas) context.fillRect(left, top, right - left, bottom - top);
  const [left, top] = areas[0];
  drawTag(context, `quality ${offload.coarse_quality}`, left + 3 * unit, top + 18 * unit, unit, COARSE);
}
