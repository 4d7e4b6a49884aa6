// Elements, numbers as text, and requests. Text goes into the page as text and never as HTML.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children; strings become text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role") element.setAttribute(name, value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** Sets text only where it differs, so that screen readers and selections are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Rows of a <dl>; their elements are kept while the names stay the same. */
export function setRows(list, rows) {
  const names = rows.map(([name]) => name).join("\n");
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...rows.map(([name]) => make("div", {}, make("dt", {}, name), make("dd"))));
  }
  rows.forEach(([, value, title], i) => {
    const cell = list.children[i].lastChild;
    setText(cell, value);
    cell.title = title || "";
  });
}

export function announce(text) {
  byId("announcer").textContent = text;
}

/** Sends JSON, or a file as it is. Throws an Error with the server's words. */
export async function request(method, url, body) {
  const file = body instanceof Blob;
  const headers = body === undefined ? {} : { "Content-Type": file ? "application/octet-stream" : "application/json" };
  let response;
  try {
    response = await fetch(url, { method, headers, body: file || body === undefined ? body : JSON.stringify(body) });
  } catch {
    throw new Error("The page's server does not answer; is it still running?");
  }
  if (response.status === 401 && location.pathname !== "/login") location.assign("/login");
  const text = await response.text();
  let values = null;
  try { values = text ? JSON.parse(text) : null; } catch { /* plain text */ }
  if (!response.ok) throw new Error((values && values.detail) || text || `The server said ${response.status}.`);
  return values;
}

export const split = (text) => text.split(/[,\n]/).map((part) => part.trim()).filter(Boolean);

export const mib = (bytes) => {
  const value = bytes / 2 ** 20;
  return value >= 10240 ? `${(value / 1024).toFixed(1)} GiB` : `${value < 100 ? value.toFixed(1) : value.toFixed(0)} MiB`;
};

export const count = (value) => Math.round(value).toLocaleString("en-US").replaceAll(",", "\u2009");

/** A probability; a broken model may have none. */
export const two = (value) => (value === null ? "?" : value.toFixed(2));

export const duration = (seconds) => {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const rest = Math.round(seconds);
  const hours = Math.floor(rest / 3600);
  const minutes = Math.floor(rest / 60) % 60;
  const two = (n) => String(n).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest % 60)} h` : `${minutes}:${two(rest % 60)} min`;
};

export const milliseconds = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);

/** A header stamp in seconds as the time of day, to a tenth of a second. */
export const clock = (stamp) => {
  const date = new Date(Math.floor(stamp * 10) * 100);
  return `${date.toLocaleTimeString("en-GB")}.${Math.floor(date.getMilliseconds() / 100)}`;
};

export const moment = (stamp) => `${new Date(stamp * 1000).toISOString().replace("T", " ").replace("Z", "")} UTC`;
