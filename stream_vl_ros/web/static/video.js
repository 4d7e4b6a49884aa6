// The live picture, with the latest answer and what fires written over it.
import { byId, clock, make, moment, setText, two } from "./dom.js";
import { camera, onCamera } from "./cameras.js";
import { link } from "./link.js";

const STALE = 3000;
const LONG = 280;
let number = 0;
let shownAt = 0;
let waiting = false;
let url = null;

function want() {
  if (camera() === null || document.hidden || waiting) return;
  waiting = true;
  link.next(camera(), number);
}

export async function showPicture(header, blob) {
  waiting = false;
  if (header.stream === camera()) {
    const image = byId("live");
    const before = url;
    url = URL.createObjectURL(blob);
    image.src = url;
    // Only a picture that was shown is followed by the next one.
    await image.decode().catch(() => {});
    if (before) URL.revokeObjectURL(before);
    number = header.number;
    shownAt = Date.now();
    image.hidden = false;
    image.alt = `Live picture${header.stream ? ` of camera ${header.stream}` : ""}`;
    image.dataset.number = header.number;
    const time = byId("caption");
    setText(time, `${clock(header.stamp)}  ${caption()}`);
    time.title = moment(header.stamp);
    fresh();
  }
  requestAnimationFrame(want);
  // An animation frame never comes to a page that is not shown.
}

function caption() {
  const status = link.get(`stream/${camera()}`);
  if (!status) return "";
  const size = status.frame_width ? `encoded at ${status.frame_width}\u00d7${status.frame_height}` : "";
  return [status.image_topic, size].filter(Boolean).join("  \u00b7  ");
}

/** Without a new picture for a while, what the node or the clock says about that. */
function fresh() {
  const age = Date.now() - shownAt;
  const stale = !shownAt || age > STALE;
  byId("screen").classList.toggle("stale", stale && shownAt > 0);
  const note = byId("no-picture");
  note.hidden = !stale;
  if (!stale) return;
  const status = link.get(`stream/${camera()}`);
  const silence = status && status.message.startsWith("no image") ? status.message : "";
  const last = shownAt ? `The last picture is ${Math.round(age / 1000)} s old.` : "No picture yet.";
  setText(note, silence ? `${last} ${silence}` : last);
}

function overlay() {
  const entries = link.all("entry/").filter((e) => e.stream === camera() && (e.state === "done" || e.state === "writing"));
  const latest = entries.sort((a, b) => b.id - a.id)[0];
  byId("overlay").hidden = !latest;
  if (latest) {
    setText(byId("overlay-question"), latest.question);
    // Of a long one, what was written last.
    setText(byId("overlay-answer"), latest.answer.length > LONG ? `\u2026${latest.answer.slice(-LONG)}` : latest.answer);
  }
  const firing = link.all("watch/").filter((w) => w.stream === camera() && w.firing);
  const chips = firing.map((w) => `${w.name} ${two(w.probability)}`);
  const list = byId("firing");
  if (list.dataset.chips !== chips.join("\n")) {
    list.dataset.chips = chips.join("\n");
    list.replaceChildren(...chips.map((text) => make("li", {}, text)));
  }
}

export function startVideo() {
  onCamera(() => {
    number = 0;
    shownAt = 0;
    waiting = false;
    byId("live").hidden = true;
    overlay();
    fresh();
    want();
  });
  document.addEventListener("visibilitychange", () => {
    waiting = false;
    want();
  });
  link.on("entry/", overlay);
  link.on("watch/", overlay);
  setInterval(fresh, 1000);
}

/** After the connection was made anew. */
export function resumeVideo() {
  waiting = false;
  number = 0;
  want();
}
