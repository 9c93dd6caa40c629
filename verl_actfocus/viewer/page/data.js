// The data of the page: compressed JSON in base64, unpacked when it is needed.

/** Bodies that are kept; going back and forth between siblings unpacks nothing twice. */
const KEPT = 64;
const bodies = new Map();
const texts = new Map();
let index;

async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** What was recorded of trajectory `number`: see `_body` in selection.py. */
async function bodyOf(number) {
  if (!bodies.has(number)) {
    bodies.set(number, await unpack(`body-${number}`));
    if (bodies.size > KEPT) bodies.delete(bodies.keys().next().value);
  }
  return bodies.get(number);
}

/** Everything that was said in a trajectory, in lower case, for the text filter. */
async function textOf(number) {
  if (!texts.has(number)) {
    const body = bodies.get(number) ?? await unpack(`body-${number}`);
    const frames = (body.played ?? []).map((turn) => `${turn.observation}\n${turn.problem ?? ""}`);
    const all = [body.prompt, body.tokens.join(""), ...frames, body.final_observation ?? ""];
    texts.set(number, all.join("\n").toLowerCase());
  }
  return texts.get(number);
}
