// The ask box.
import { byId, make, request, setText, split } from "./dom.js";
import { meant } from "./cameras.js";
import { link } from "./link.js";

let dialogue = "";
const mine = (entry) => entry.origin === "page" && (entry.state === "waiting" || entry.state === "writing");

const name = () => `page-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;

async function ask(question) {
  const error = byId("ask-error");
  setText(error, "");
  const follow = byId("follow").checked;
  if (follow && !dialogue) dialogue = name();
  try {
    await request("POST", "/questions", {
      question,
      stream: meant("ask-stream"),
      choices: split(byId("choices").value),
      dialogue: follow ? dialogue : "",
      regex: byId("regex").value,
      max_new_tokens: Number(byId("max-tokens").value) || 0,
      remember: byId("remember").checked,
    });
    return true;
  } catch (problem) {
    setText(error, problem.message);
    return false;
  }
}

/** Ends the newest answer of this page that is being written; false if there is none. */
export function stopNewest() {
  const running = link.all("entry/").filter(mine).sort((a, b) => b.id - a.id)[0];
  if (running) stopEntry(running.id);
  return Boolean(running);
}

export function stopEntry(id) {
  request("POST", `/entries/${id}/stop`).catch((problem) => setText(byId("ask-error"), problem.message));
}

/** Goes on with the dialogue of an answer. */
export function followUp(entry) {
  dialogue = entry.dialogue;
  byId("follow").checked = true;
  byId("new-dialogue").hidden = false;
  byId("question").focus();
}

function fit(field) {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, 160)}px`;
}

export function startAsking() {
  const field = byId("question");
  field.addEventListener("input", () => fit(field));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      byId("ask").requestSubmit();
    }
  });
  byId("ask").addEventListener("submit", async (event) => {
    event.preventDefault();
    const question = field.value;
    if (await ask(question) && field.value === question) {
      field.value = "";
      fit(field);
    }
  });
  byId("stop").addEventListener("click", stopNewest);
  byId("follow").addEventListener("change", () => {
    dialogue = "";
    byId("new-dialogue").hidden = !byId("follow").checked;
  });
  byId("new-dialogue").addEventListener("click", () => {
    dialogue = "";
    field.focus();
  });
  link.on("page", (key, page) => {
    byId("presets").replaceChildren(
      ...page.presets.map((text) => make("button", { type: "button", className: "chip", onclick: () => ask(text) }, text)),
    );
    byId("logout").hidden = !page.password;
  });
  link.on("entry/", () => {
    byId("stop").hidden = !link.all("entry/").some(mine);
  });
}
