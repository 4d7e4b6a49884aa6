// Questions and answers, the newest first, and what an answer saw.
import { announce, byId, clock, count, duration, make, milliseconds, moment, setText } from "./dom.js";
import { followUp, stopEntry } from "./ask.js";
import { link } from "./link.js";

const cards = new Map(); // id -> {card, update, askedAt}
// The time tells apart what a browser keeps: numbers begin again with a server that has no history.
const frameUrl = (entry, i) => `/entries/${entry.id}/frames/${i}.jpg?of=${entry.asked_at}`;

function build(entry) {
  const thumb = make("button", { type: "button", className: "thumb", onclick: () => open(entry.id) });
  const question = make("p", { className: "question" });
  const answer = make("p", { className: "answer" });
  const bars = make("div", { className: "bars" });
  const error = make("p", { className: "error" });
  const meta = make("p", { className: "meta" });
  const stop = make("button", { type: "button", className: "small", onclick: () => stopEntry(entry.id) }, "Stop");
  const follow = make("button", { type: "button", className: "small quiet" }, "Follow up");
  const body = make("div", { className: "body" }, question, answer, bars, error, meta, make("div", { className: "line" }, stop, follow));
  const card = make("article", { className: "entry", dataset: { id: entry.id }, tabIndex: -1 }, thumb, body);
  answer.addEventListener("click", () => open(entry.id));

  const update = (e) => {
    card.dataset.state = e.state;
    setText(question, e.state === "note" ? "" : e.question);
    setText(answer, e.answer || (e.state === "waiting" ? "\u2026" : ""));
    answer.classList.toggle("opens", e.frames.length > 0);
    setText(error, e.error || (e.state === "stopped" ? "Stopped." : ""));
    setText(meta, facts(e).join(" \u00b7 "));
    meta.title = e.last_stamp ? `header stamps ${moment(e.first_stamp)} to ${moment(e.last_stamp)}` : "";
    stop.hidden = !(e.origin === "page" && (e.state === "waiting" || e.state === "writing"));
    follow.hidden = !(e.dialogue && e.state === "done");
    follow.onclick = () => followUp(e);
    thumb.hidden = e.state === "note" || !e.frames.length;
    if (e.frames.length && thumb.dataset.frames !== String(e.frames.length)) {
      thumb.dataset.frames = e.frames.length;
      thumb.setAttribute("aria-label", `Show what the answer to \u201c${e.question}\u201d saw`);
      thumb.replaceChildren(make("img", { src: frameUrl(e, e.frames.length - 1), alt: "", loading: "lazy" }));
    }
    choices(bars, e);
  };
  return { card, update, askedAt: entry.asked_at };
}

function facts(e) {
  if (e.state === "note") return [new Date(e.asked_at * 1000).toLocaleTimeString("en-GB")];
  const span = e.last_stamp - e.first_stamp;
  return [
    e.stream,
    e.last_stamp ? clock(e.last_stamp) : new Date(e.asked_at * 1000).toLocaleTimeString("en-GB"),
    e.frames_seen ? `saw ${span > 0 ? `${duration(span)}, ` : ""}${count(e.frames_seen)} frames` : "",
    e.ttft ? `first token ${milliseconds(e.ttft)}` : "",
    e.tokens_per_second ? `${e.tokens_per_second.toFixed(0)} tokens/s` : "",
    e.dialogue ? "in a dialogue" : "",
    e.remembered ? "remembered" : "",
    e.origin === "other" ? "asked by another client" : "",
  ].filter(Boolean).map((fact) => fact.replaceAll(" ", "\u00a0"));
}

function choices(bars, e) {
  const shown = e.probabilities.length ? e.choices : [];
  if (bars.childElementCount !== shown.length) {
    bars.replaceChildren(...shown.map((choice) => make("div", { className: "bar" },
      make("span", { className: "name" }, choice), make("span", { className: "track" }, make("span")), make("span", { className: "number" }))));
  }
  shown.forEach((choice, i) => {
    const [, track, number] = bars.children[i].children;
    track.firstChild.style.width = `${(100 * e.probabilities[i]).toFixed(1)}%`;
    setText(number, `${(100 * e.probabilities[i]).toFixed(e.probabilities[i] < 0.0995 ? 1 : 0)} %`);
    bars.children[i].classList.toggle("best", choice === e.answer);
  });
}

function open(id) {
  const entry = link.get(`entry/${id}`);
  if (!entry || !entry.frames.length) return;
  setText(byId("moment-question"), entry.question);
  setText(byId("moment-answer"), entry.answer);
  const strip = byId("moment-strip");
  const show = (i) => {
    byId("moment-large").src = frameUrl(entry, i);
    byId("moment-large").alt = `Picture at ${clock(entry.frames[i])}`;
    const before = entry.last_stamp - entry.frames[i];
    const when = before > 0.05 ? `${duration(before)} before the end of what it saw` : "the newest that it saw";
    setText(byId("moment-time"), `${clock(entry.frames[i])}  \u00b7  ${when}`);
    byId("moment-time").title = moment(entry.frames[i]);
    [...strip.children].forEach((child, k) => child.setAttribute("aria-pressed", String(k === i)));
  };
  strip.replaceChildren(...entry.frames.map((stamp, i) => make("button", {
    type: "button", "aria-label": `Picture at ${clock(stamp)}`, onclick: () => show(i),
  }, make("img", { src: frameUrl(entry, i), alt: "" }))));
  show(entry.frames.length - 1);
  byId("moment").showModal();
  strip.lastChild.scrollIntoView({ block: "nearest", inline: "end" });
}

export function startHistory() {
  const list = byId("history");
  const before = new Map();
  link.on("entry/", (key, entry) => {
    const id = Number(key.slice("entry/".length));
    // The page's server began anew without its history: the same number is of another question now.
    const another = entry && cards.has(id) && cards.get(id).askedAt !== entry.asked_at;
    if (!entry || another) {
      cards.get(id)?.card.remove();
      cards.delete(id);
      before.delete(id);
    }
    if (entry) {
      if (!cards.has(id)) {
        const made = build(entry);
        cards.set(id, made);
        const after = [...list.children].find((card) => Number(card.dataset.id) < id) || null;
        list.insertBefore(made.card, after);
      }
      cards.get(id).update(entry);
      const was = before.get(id);
      if (was && was !== entry.state && ["done", "failed", "stopped"].includes(entry.state)) {
        announce(entry.error || `${entry.question} ${entry.answer}`);
      }
      before.set(id, entry.state);
    }
    byId("history-empty").hidden = cards.size > 0;
    list.hidden = cards.size === 0;
  });
  byId("moment").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const buttons = [...byId("moment-strip").children];
    const now = buttons.findIndex((b) => b.getAttribute("aria-pressed") === "true");
    if (step && buttons[now + step]) {
      buttons[now + step].click();
      buttons[now + step].focus();
    }
  });
}
