// Canvases that show a frame of the clip with what is drawn over it.

/** A hidden video element, which the canvases take their images from. */
function hiddenVideo(source) {
  const video = element("video.hidden-video", { playsinline: "", preload: "auto", "aria-hidden": "true" });
  video.muted = true;
  video.src = source;
  return video;
}

/** Whether there is a video that this browser can play. */
const isPlayable = (video) => video !== null && !video.error;

/** Whether the image that a video was sent to is still to come. */
const isOnItsWay = (video) => video.seeking || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA;

/** The address of the page's video: a blob of what lies in the page, or the file next to it; empty without a video. */
function videoSource() {
  const held = document.getElementById("video");
  if (!held) return "";
  if (held.dataset.src) return held.dataset.src;
  const bytes = Uint8Array.from(atob(held.textContent), (character) => character.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
}

/** A frame of the clip with the layers over it. */
class Stage {
  constructor(run, heading = "") {
    this.run = run;
    this.canvas = element("canvas", { role: "img" });
    this.canvas.style.aspectRatio = `${run.clip.width} / ${run.clip.height}`;
    this.canvas.style.setProperty("--aspect", run.clip.width / run.clip.height);
    this.captions = element("figcaption");
    const headings = heading ? [element("h2", {}, heading)] : [];
    this.node = element("figure.stage", {}, ...headings, this.canvas, this.captions);
  }

  /** Draw a frame; `image` is null where there is no video. */
  draw(frame, image, layers) {
    const context = this.#begin(image);
    drawLayers(context, image, this.run, frame, layers, this.unit);
  }

  /** Write below the frame what the user saw on it. */
  describe(frame) {
    const f1 = this.run.frames.f1[frame];
    const found = this.run.has_references ? `F1 ${f1 === null ? `${DASH} (nothing to find)` : score(f1)} · ` : "";
    const text = found + this.run.caption(frame);
    this.captions.textContent = text;
    this.canvas.setAttribute("aria-label", `Frame ${frame}: ${text}`);
  }

  /** Draw an offloaded frame as it was sent, with its region types. */
  drawOffload(offload, image) {
    const context = this.#begin(image);
    if (image) drawAsSent(context, image, this.run, offload, this.unit);
    drawRegions(context, this.run, offload, this.unit);
  }

  #begin(image) {
    fitCanvas(this.canvas);
    const context = this.canvas.getContext("2d");
    const scale = this.canvas.width / this.run.clip.width;
    this.unit = this.run.clip.width / this.canvas.clientWidth;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, this.run.clip.width, this.run.clip.height);
    if (image) context.drawImage(image, 0, 0, this.run.clip.width, this.run.clip.height);
    return context;
  }
}
