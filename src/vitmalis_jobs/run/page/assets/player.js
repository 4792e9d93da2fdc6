// The clock of a page: which frame is shown, and the controls that choose it.

const SPEEDS = [0.1, 0.25, 0.5, 1, 2];

class Player {
  /**
   * @param {Run} run gives number and rate of the frames
   * @param {string} source address of the video; empty for none
   * @param {function(number)} onFrame called when another frame is chosen
   * @param {function(number, ?HTMLVideoElement)} onImage called when its image is there to be drawn
   */
  constructor(run, source, onFrame, onImage) {
    Object.assign(this, { run, onFrame, onImage, frame: -1, playing: false });
    this.video = source ? hiddenVideo(source) : null;
    this.node = this.#controls();
    if (this.video) this.#followVideo();
  }

  /** Show a frame, the nearest that there is. */
  go(frame) {
    this.#choose(Math.max(0, Math.min(this.run.frameCount - 1, frame)));
    if (!isPlayable(this.video)) this.draw();
    else if (this.video.readyState >= HTMLMediaElement.HAVE_METADATA) {
      this.video.currentTime = (this.frame + 0.5) / this.run.clip.fps;
    }
  }

  /** Draw the chosen frame, unless its image is still to come and will be drawn then. */
  draw() {
    if (!isPlayable(this.video)) this.onImage(this.frame, null);
    else if (!isOnItsWay(this.video)) this.onImage(this.frame, this.video);
  }

  toggle() {
    this.playing ? this.pause() : this.play();
  }

  play() {
    if (this.frame === this.run.frameCount - 1) this.go(0);
    this.#setPlaying(true);
    if (isPlayable(this.video)) this.video.play();
    else this.#playWithoutVideo();
  }

  pause() {
    this.#setPlaying(false);
    this.video?.pause();
  }

  /** Play faster (+1) or slower (-1). */
  changeSpeed(step) {
    const index = SPEEDS.indexOf(Number(this.speed.value)) + step;
    this.speed.value = SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, index))];
    this.#applySpeed();
  }

  #choose(frame) {
    if (frame === this.frame) return;
    this.frame = frame;
    const time = `${this.run.time(frame).toFixed(2)} s`;
    this.slider.value = frame;
    this.slider.setAttribute("aria-valuetext", `frame ${frame}, ${time}`);
    this.position.textContent = `frame ${frame} of ${this.run.frameCount - 1} · ${time}`;
    this.onFrame(frame);
  }

  #controls() {
    const last = this.run.frameCount - 1;
    this.button = element("button.play", { type: "button", click: () => this.toggle() }, "Play");
    this.slider = element("input", { type: "range", min: 0, max: last, value: 0, "aria-label": "frame" });
    this.slider.addEventListener("input", () => { this.pause(); this.go(Number(this.slider.value)); });
    this.position = element("output");
    const choices = SPEEDS.map((speed) => element("option", { value: speed }, `${speed}×`));
    this.speed = element("select", { "aria-label": "speed", change: () => this.#applySpeed() }, ...choices);
    this.speed.value = 1;
    const video = this.video ? [this.video] : [];
    return element("div.controls", {}, this.button, this.slider, this.position, this.speed, ...video);
  }

  #followVideo() {
    const { video } = this;
    video.addEventListener("seeked", () => { if (!this.playing) this.draw(); });
    video.addEventListener("ended", () => { this.pause(); this.go(this.run.frameCount - 1); });
    video.addEventListener("loadeddata", () => this.go(Math.max(this.frame, 0)), { once: true });
    video.addEventListener("error", () => {
      this.node.append("this browser cannot play the video");
      this.draw();
    });
    const shown = (_, { mediaTime }) => {
      this.#show(mediaTime);
      video.requestVideoFrameCallback(shown);
    };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(shown);
    else video.addEventListener("timeupdate", () => this.#show(video.currentTime));
  }

  /** Follow the playing video to its frame at a media time. */
  #show(time_s) {
    if (!this.playing) return this.draw();
    this.#choose(Math.min(this.run.frameCount - 1, Math.round(time_s * this.run.clip.fps)));
    this.draw();
  }

  #playWithoutVideo() {
    const [start, from] = [performance.now(), this.frame];
    const step = (now) => {
      if (!this.playing) return;
      const frame = from + Math.floor(((now - start) / 1e3) * this.run.clip.fps * Number(this.speed.value));
      this.go(frame);
      if (frame >= this.run.frameCount - 1) this.pause();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #setPlaying(playing) {
    this.playing = playing;
    this.button.textContent = playing ? "Pause" : "Play";
  }

  #applySpeed() {
    if (this.video) this.video.playbackRate = Number(this.speed.value);
  }
}

/**
 * Let keys move a player; see KEYS.
 * @param {Player} player
 * @param {function(number): number} nextOffload the frame of the next (+1) or previous (-1) offload
 * @param {HTMLInputElement[]} toggles checkboxes that the digits switch
 */
function listenToKeys(player, nextOffload, toggles) {
  const move = (frame) => { player.pause(); player.go(frame); };
  const actions = {
    " ": () => player.toggle(),
    ArrowLeft: () => move(player.frame - 1),
    ArrowRight: () => move(player.frame + 1),
    Home: () => move(0),
    End: () => move(player.run.frameCount - 1),
    p: () => move(nextOffload(-1)),
    n: () => move(nextOffload(1)),
    "-": () => player.changeSpeed(-1),
    "+": () => player.changeSpeed(1),
  };
  document.addEventListener("keydown", (event) => {
    const modified = event.ctrlKey || event.metaKey || event.altKey;
    const own = event.key === " " ? "button, input[type=checkbox], select, summary" : "select";
    const action = actions[event.key] ?? (toggles[event.key - 1] && (() => toggles[event.key - 1].click()));
    if (modified || !action || event.target.closest(own)) return; // the element has a use of its own for the key
    event.preventDefault();
    action();
  });
}

const KEYS = [
  ["space", "play or pause"],
  ["← →", "one frame back or on"],
  ["p n", "frame of the previous or next offload"],
  ["Home End", "first or last frame"],
  ["- +", "slower or faster"],
  ["1 2 3 …", "switch a layer"],
];

/** Frame of the next (+1) or previous (-1) offload of any of the runs. */
function nextOffloadFrame(runs, frame, step) {
  const frames = runs.flatMap((run) => run.offloads.map((offload) => offload.frame)).sort((a, b) => a - b);
  const next = step > 0 ? frames.find((each) => each > frame) : frames.findLast((each) => each < frame);
  return next ?? frame;
}

/** Frame of the address (`#frame=40`); NaN if it names none. */
const frameOfAddress = () => Number.parseInt(new URLSearchParams(location.hash.slice(1)).get("frame"), 10);

/** Show the frame of the address or the first with a result; draw again when size or theme change. */
function start(player, plots) {
  const redraw = () => { player.draw(); for (const plot of plots) plot.redraw(); };
  const asked = frameOfAddress();
  player.go(Number.isNaN(asked) ? player.run.frames.result_frame.findIndex((frame) => frame >= 0) : asked);
  redraw();
  addEventListener("hashchange", () => {
    const frame = frameOfAddress();
    if (!Number.isNaN(frame)) { player.pause(); player.go(frame); }
  });
  addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
