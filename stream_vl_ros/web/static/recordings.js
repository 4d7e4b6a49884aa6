// Videos and bags that are dropped on the page.
import { announce, byId, make, mib, request, setText } from "./dom.js";
import { camera } from "./cameras.js";
import { link } from "./link.js";

async function upload(file) {
  const error = byId("replay-error");
  setText(error, "");
  const stream = camera();
  if (stream === null) {
    setText(error, "There is no camera that it could be replayed to; the node must be there first.");
    return;
  }
  const where = `name=${encodeURIComponent(file.name)}&stream=${encodeURIComponent(stream)}`;
  try {
    const { topic, publishers } = await request("GET", `/recordings/check?${where}&size=${file.size}`);
    if (publishers.length && !(await confirmed(topic, publishers))) return;
    await request("PUT", `/recordings?${where}&confirmed=${publishers.length > 0}`, file);
  } catch (problem) {
    setText(error, problem.message);
  }
}

function confirmed(topic, publishers) {
  const dialog = byId("confirm");
  setText(byId("confirm-text"), `${publishers.join(" and ")} publishes on ${topic} already. Replayed there too, both would be seen mixed.`);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

const WORDS = { uploading: "being uploaded", waiting: "waiting for the node to subscribe", playing: "being replayed" };

function show() {
  const cards = link.all("replay/").map((r) => {
    const running = r.state in WORDS;
    const part = r.state === "uploading" ? (r.size ? r.received / r.size : 0) : r.length ? r.position / r.length : 0;
    const progress = make("progress", { max: 1, value: Math.min(1, part), "aria-label": `Progress of ${r.name}` });
    const numbers = r.state === "uploading" ? mib(r.received) : r.state === "playing" ? `${r.position.toFixed(1)} of ${r.length.toFixed(1)} s, ${r.images} images` : "";
    const stop = make("button", { type: "button", className: "small", onclick: () => request("POST", `/recordings/stop?stream=${encodeURIComponent(r.stream)}`) }, "Stop");
    return make("article", { className: "replay", dataset: { state: r.state } },
      make("div", { className: "line" }, make("strong", {}, r.name), r.stream ? ` \u00b7 ${r.stream}` : null, make("span", { className: "spring" }),
        r.state === "playing" || r.state === "waiting" ? stop : null),
      running ? progress : null,
      make("p", { className: r.state === "failed" ? "error" : "meta" }, running ? `${WORDS[r.state]}  ${numbers}` : r.message));
  });
  // The button must not lose the focus at every step.
  const focused = byId("replays").contains(document.activeElement);
  byId("replays").replaceChildren(...cards);
  if (focused) byId("replays").querySelector("button")?.focus();
}

export function startRecordings() {
  const input = byId("file");
  input.addEventListener("change", () => {
    if (input.files.length) upload(input.files[0]);
    input.value = "";
  });
  const veil = byId("dropping");
  const isFile = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    veil.hidden = true;
    if (event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
  });
  const before = new Map();
  link.on("replay/", (key, replay) => {
    if (replay && before.get(key) !== replay.state && replay.message) announce(`${replay.name}: ${replay.message}`);
    before.set(key, replay && replay.state);
    show();
  });
}
