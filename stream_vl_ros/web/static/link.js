// The websocket: documents that the server pushes, and pictures that are asked for one by one.

const documents = new Map();
const listeners = []; // [prefix, function]
let socket = null;
let wait = 500;
let onState = () => {};
let onPicture = () => {};
let wanted = null; // [stream, number of the picture that is here]

export const link = {
  /** Calls `changed(key, document or null)` for every document whose key begins with `prefix`. */
  on(prefix, changed) {
    listeners.push([prefix, changed]);
  },
  get: (key) => documents.get(key) || null,
  /** Documents whose keys begin with `prefix`. */
  all: (prefix) => [...documents].filter(([key]) => key.startsWith(prefix)).map(([, document]) => document),
  start(state, picture) {
    onState = state;
    onPicture = picture;
    connect();
  },
  /** Asks for the next picture of a stream after number `after`. */
  next(stream, after) {
    wanted = [stream, after];
    if (socket && socket.readyState === WebSocket.OPEN) {
      socket.send(JSON.stringify({ next: stream, after }));
    }
  },
};

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  let first = true;
  socket.addEventListener("message", (event) => {
    if (typeof event.data !== "string") {
      picture(event.data);
      return;
    }
    const news = JSON.parse(event.data).documents;
    if (first) {
      // Everything that there is: what is not in it is gone.
      first = false;
      for (const key of [...documents.keys()]) if (!(key in news)) news[key] = null;
      wait = 500;
      onState(true);
    }
    take(news);
  });
  socket.addEventListener("open", () => wanted && link.next(...wanted));
  socket.addEventListener("close", async () => {
    onState(false);
    // Not logged in any more? A websocket does not say.
    const here = await fetch("/here").catch(() => null);
    if (here && here.status === 401) location.assign("/login");
    setTimeout(connect, wait);
    wait = Math.min(wait * 1.5, 5000);
  });
}

function take(news) {
  for (const [key, document] of Object.entries(news)) {
    if (document === null) documents.delete(key);
    else documents.set(key, document);
  }
  for (const [key, document] of Object.entries(news)) {
    for (const [prefix, changed] of listeners) {
      if (key.startsWith(prefix)) changed(key, document);
    }
  }
}

function picture(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  wanted = null;
  onPicture(header, new Blob([new Uint8Array(buffer, 4 + length)], { type: "image/jpeg" }));
}
