// What the memory holds, what became of the frames, and how fast it goes.
import { byId, clock, count, duration, make, mib, milliseconds, setRows, setText } from "./dom.js";
import { camera, onCamera } from "./cameras.js";
import { link } from "./link.js";

const LAST = 10;

/** The tightest budget: [part that is used, its name], or null without one. */
function budget(status, held) {
  const limits = status.limits || {};
  const parts = [
    [limits.budget_tokens && status.cache_tokens / limits.budget_tokens, `${count(limits.budget_tokens || 0)} tokens`],
    [limits.budget_mib && status.cache_bytes / 2 ** 20 / limits.budget_mib, `${limits.budget_mib} MiB`],
    [limits.budget_seconds && held / limits.budget_seconds, duration(limits.budget_seconds || 0)],
  ].filter(([part]) => part > 0);
  return parts.sort((a, b) => b[0] - a[0])[0] || null;
}

const RULES = { none: "when it is full, frames are refused", window: "the oldest is forgotten", importance: "the least important is forgotten" };

function show() {
  const status = link.get(`stream/${camera()}`);
  if (!status) return;
  const held = Math.max(0, status.last_stamp - status.first_stamp);
  const limit = budget(status, held);
  const bar = byId("memory-bar");
  const used = limit ? Math.min(1, limit[0]) : 0;
  bar.classList.toggle("endless", !limit);
  bar.firstElementChild.style.width = limit ? `${(100 * used).toFixed(1)}%` : "100%";
  bar.setAttribute("aria-valuenow", limit ? (100 * used).toFixed(0) : "0");
  const rule = RULES[(status.limits || {}).eviction];
  const words = limit ? `${(100 * used).toFixed(0)} % of ${limit[1]}${rule ? `; ${rule}` : ""}` : "No budget is set: the memory grows with the video.";
  setText(byId("memory-words"), words);
  bar.setAttribute("aria-valuetext", words);
  setRows(byId("memory-list"), [
    ["Tokens", count(status.cache_tokens)],
    ["KV cache", mib(status.cache_bytes)],
    ["Video held", status.first_stamp ? duration(held) : "none", status.first_stamp ? `${clock(status.first_stamp)} to ${clock(status.last_stamp)}` : ""],
    ["Forgotten", `${count(status.evicted_frames)} frames, ${count(status.evicted_tokens)} tokens`],
    ...(status.time_jumps_back || status.time_gaps ? [["Time jumps", `${status.time_jumps_back} back, ${status.time_gaps} ahead`]] : []),
    ...(status.device_memory_total ? [["Device memory", `${mib(status.device_memory_used)} of ${mib(status.device_memory_total)}`,
      `of ${status.device === "cpu" ? "the node's host" : status.device}, all processes together`]] : []),
  ]);
  const kinds = [["ingested", "frames_ingested"], ["skipped", "frames_skipped"], ["waiting", "frames_waiting"], ["dropped", "frames_dropped"]];
  const frames = byId("frames-bar");
  if (!frames.childElementCount) frames.append(...kinds.map(([name]) => make("span", { className: name })));
  kinds.forEach(([, key], i) => { frames.children[i].style.flexGrow = String(status[key]); });
  frames.setAttribute("aria-label", kinds.map(([name, key]) => `${status[key]} ${name}`).join(", "));
  setRows(byId("frames-list"), [
    ["Received", `${count(status.frames_received)} (${status.rates.received.toFixed(1)}/s)`],
    ["Ingested", `${count(status.frames_ingested)} (${status.rates.ingested.toFixed(1)}/s)`],
    ["Skipped", `${count(status.frames_skipped)}`, "the camera is faster than target_fps"],
    ["Waiting", count(status.frames_waiting)],
    ["Dropped", dropped(status)],
    ...(status.message && !status.message.startsWith("no image") ? [["Last problem", status.message]] : []),
  ]);
  const answers = link.all("entry/").filter((e) => e.state === "done" && e.ttft).sort((a, b) => b.id - a.id).slice(0, LAST);
  const speeds = answers.filter((e) => e.tokens_per_second);
  setRows(byId("speed-list"), [
    ["First token", answers.length ? `${milliseconds(answers[0].ttft)} (median ${milliseconds(median(answers.map((e) => e.ttft)))})` : "\u2013",
      `of the last ${answers.length} answers`],
    ["Tokens/s", speeds.length ? `${speeds[0].tokens_per_second.toFixed(0)} (median ${median(speeds.map((e) => e.tokens_per_second)).toFixed(0)})` : "\u2013"],
    ["Chunk", status.chunks ? `${milliseconds(status.last_chunk_time)} (mean ${milliseconds(status.mean_chunk_time)})` : "\u2013"],
    ["Watches", status.watches ? `${milliseconds(status.last_watch_time)} a chunk` : "none"],
    ["Questions", questions(status), parts(status.refusals, "refused: ")],
    ["Model", `${status.model.split("/").pop()}, ${status.device} ${status.dtype}`, status.model],
  ]);
}

function dropped(status) {
  return count(status.frames_dropped) + parts(status.drops, ": ");
}

function questions(status) {
  const ends = ["answered", "cancelled", "refused", "timed_out"].filter((end) => end === "answered" || status[`questions_${end}`]);
  return [...ends.map((end) => `${count(status[`questions_${end}`])} ${end.replace("_", " ")}`), `${status.questions_active} now`].join(", ");
}

function parts(counts, before) {
  const words = counts.map(([reason, number]) => `${reason.replaceAll("_", " ")} ${count(number)}`);
  return words.length ? before + words.join(", ") : "";
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

export function startMemory() {
  link.on("stream/", show);
  link.on("entry/", show);
  onCamera(show);
}
