import { announce, byId, request, setText } from "./dom.js";
import { startAsking, stopNewest } from "./ask.js";
import { nextCamera, startCameras } from "./cameras.js";
import { startHistory } from "./history.js";
import { link } from "./link.js";
import { startMemory } from "./memory.js";
import { startRecordings } from "./recordings.js";
import { resumeVideo, showPicture, startVideo } from "./video.js";
import { newWatch, startWatches } from "./watches.js";

let connected = false;
let told = "";

/** One sentence at the top, if a person should know something. */
function banner() {
  const node = link.get("node");
  const state = !connected ? "disconnected" : node ? node.state : "connecting";
  const sentence = !connected ? "The connection to the page's server is lost; trying again." : node ? node.sentence : "";
  const pill = byId("state");
  setText(pill, state);
  pill.dataset.state = state;
  document.body.dataset.node = state;
  setText(byId("node-name"), node ? node.name : "");
  setText(byId("banner"), sentence);
  byId("banner").hidden = !sentence;
  byId("banner").dataset.level = state === "active" || state === "loading" || state === "inactive" ? "warn" : "bad";
  if (state !== told) {
    if (told && told !== "connecting") announce(sentence || `The node is ${state}.`);
    told = state;
  }
}

function dark() {
  const button = byId("theme");
  const now = document.documentElement.dataset.theme;
  setText(button, now === "dark" ? "Light" : "Dark");
  button.setAttribute("aria-label", `Change to the ${now === "dark" ? "light" : "dark"} theme`);
}

function toggle() {
  window.toggleTheme();
  dark();
}

const KEYS = {
  "/": () => byId("question").focus(),
  "?": () => byId("help").showModal(),
  w: newWatch,
  c: nextCamera,
  d: toggle,
};

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (stopNewest()) event.preventDefault();
    return;
  }
  if (event.target.closest("input, textarea, select")) return;
  const action = KEYS[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

byId("theme").addEventListener("click", toggle);
byId("help-open").addEventListener("click", () => byId("help").showModal());
byId("logout").addEventListener("click", async () => {
  await request("POST", "/logout").catch(() => {});
  location.assign("/login");
});
dark();
startCameras();
startVideo();
startAsking();
startHistory();
startWatches();
startMemory();
startRecordings();
link.on("node", banner);
link.start((state) => {
  connected = state;
  banner();
  if (state) resumeVideo();
}, showPicture);
