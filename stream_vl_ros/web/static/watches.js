// Standing questions: how they stand, their scores over time, and what they told.
import { announce, byId, clock, duration, make, moment, request, setText, split, two } from "./dom.js";
import { meant } from "./cameras.js";
import { draw } from "./chart.js";
import { link } from "./link.js";

const cards = new Map();

function build(watch) {
  const state = make("span", { className: "pill" });
  const number = make("strong", { className: "probability" });
  const question = make("p", { className: "question" });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "chart");
  svg.setAttribute("role", "img");
  const meta = make("p", { className: "meta" });
  const error = make("p", { className: "error" });
  const remove = make("button", { type: "button", className: "small quiet", "aria-label": `Remove standing question ${watch.name}` }, "Remove");
  remove.addEventListener("click", async () => {
    try {
      await request("DELETE", `/watches/${encodeURIComponent(watch.name)}?stream=${encodeURIComponent(watch.stream)}`);
    } catch (problem) {
      setText(byId("watch-error"), problem.message);
    }
  });
  const card = make("article", { className: "watch", dataset: { name: watch.name } },
    make("div", { className: "line" }, make("h3", {}, watch.stream ? `${watch.name} \u00b7 ${watch.stream}` : watch.name), state, number,
      make("span", { className: "spring" }), remove), question,
    make("div", { className: "plot" }, svg, make("span", { "aria-hidden": "true" }, "1"), make("span", { "aria-hidden": "true" }, "0")), meta, error);
  const update = (w) => {
    card.classList.toggle("fires", w.firing);
    setText(state, w.firing ? "fires" : w.probability < 0 ? "not asked yet" : "quiet");
    setText(number, w.probability < 0 ? "" : two(w.probability));
    number.title = `probability of \u201c${w.fires_on}\u201d`;
    setText(question, w.question);
    const span = w.points.length > 1 ? w.points[w.points.length - 1][0] - w.points[0][0] : 0;
    setText(meta, [`fires on \u201c${w.fires_on}\u201d from ${w.threshold.toFixed(2)} (dashed), stops below ${Math.max(0, w.threshold - w.hysteresis).toFixed(2)}`,
      w.min_interval ? `at most every ${duration(w.min_interval)}` : "", `${w.events} events`, span > 0 ? `last ${duration(span)}` : ""].filter(Boolean).join("  \u00b7  "));
    setText(error, w.error);
    draw(svg, w);
  };
  return { card, update };
}

function slug(question) {
  const words = question.toLowerCase().normalize("NFKD").replace(/[^a-z0-9]+/g, "_").replace(/^[^a-z]+|_+$/g, "");
  const base = words.slice(0, 40) || "watch";
  const taken = new Set(link.all("watch/").map((w) => w.name));
  let name = base;
  for (let i = 2; taken.has(name); i += 1) name = `${base}_${i}`;
  return name;
}

async function add(event) {
  event.preventDefault();
  const error = byId("watch-error");
  setText(error, "");
  const question = byId("watch-question").value;
  const several = (link.get("streams") || []).length > 1;
  try {
    await request("POST", "/watches", {
      name: byId("watch-name").value || slug(question),
      question,
      stream: several ? meant("watch-stream") : "",
      options: split(byId("watch-options").value),
      fires_on: byId("watch-fires-on").value,
      threshold: Number(byId("watch-threshold").value) || -1,
      hysteresis: byId("watch-hysteresis").value === "" ? -1 : Number(byId("watch-hysteresis").value),
      min_interval: Number(byId("watch-interval").value) || 0,
    });
    byId("watch-question").value = "";
    byId("watch-name").value = "";
    announce("The standing question was added.");
  } catch (problem) {
    setText(error, problem.message);
  }
}

function events(list) {
  const told = [...list].reverse();
  setText(byId("events-count"), told.length ? `(${told.length})` : "");
  byId("events").replaceChildren(...told.map((e) => {
    const what = e.fired ? "fires" : e.removed ? "was removed" : "stopped";
    return make("li", { title: moment(e.stamp) }, make("span", { className: "meta" }, clock(e.stamp)), " ",
      make("strong", {}, e.name), ` ${what}: ${e.option} (${two(e.probability)})`, e.stream ? ` \u00b7 ${e.stream}` : "");
  }));
}

export function startWatches() {
  byId("watch-form").addEventListener("submit", add);
  const before = new Map();
  link.on("watch/", (key, watch) => {
    if (!watch) {
      cards.get(key)?.card.remove();
      cards.delete(key);
      before.delete(key);
    } else {
      if (!cards.has(key)) {
        const made = build(watch);
        cards.set(key, made);
        byId("watches").append(made.card);
      }
      cards.get(key).update(watch);
      if (before.has(key) && before.get(key) !== watch.firing) announce(`${watch.name} ${watch.firing ? "fires" : "stopped"}.`);
      before.set(key, watch.firing);
    }
    byId("watches-empty").hidden = cards.size > 0;
  });
  link.on("events", (key, list) => events(list || []));
}

export function newWatch() {
  byId("watch-more").open = true;
  byId("watch-question").focus();
}
