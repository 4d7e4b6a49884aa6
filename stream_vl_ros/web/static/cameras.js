// Which camera is looked at, and which one a form means.
import { byId, make } from "./dom.js";
import { link } from "./link.js";

let chosen = null;
const followers = [];

/** Calls `changed()` when another camera is looked at. */
export const onCamera = (changed) => followers.push(changed);

/** Name of the stream that is looked at; null while there is none. */
export const camera = () => chosen;

const label = (stream) => stream || "the camera";

export function nextCamera() {
  const names = (link.get("streams") || []).map((s) => s.name);
  if (names.length > 1) choose(names[(names.indexOf(chosen) + 1) % names.length]);
}

function choose(name) {
  if (name === chosen) return;
  chosen = name;
  byId("camera").value = name;
  for (const changed of followers) changed();
}

export function startCameras() {
  const select = byId("camera");
  select.addEventListener("change", () => choose(select.value));
  link.on("streams", (key, streams) => {
    const names = (streams || []).map((s) => s.name);
    const several = names.length > 1;
    byId("camera-label").hidden = !several;
    fill(select, names.map((name) => [name, label(name)]), chosen);
    for (const [id, all, whole] of [["ask-stream", "all", "all cameras"], ["watch-stream", "all", "all cameras"]]) {
      byId(`${id}-label`).hidden = !several;
      fill(byId(id), several ? [["", "this camera"], [all, whole], ...names.map((n) => [n, n])] : [["", ""]]);
    }
    if (names.length && !names.includes(chosen)) {
      chosen = null;
      choose(names[0]);
    }
  });
}

function fill(select, options, value = select.value) {
  select.replaceChildren(...options.map(([key, text]) => make("option", { value: key }, text)));
  if (options.some(([key]) => key === value)) select.value = value;
}

/** The stream that a form's select means: "" there is the one that is looked at. */
export const meant = (id) => byId(id).value || chosen || "";
