/* The page: a picture comes in, is sent, and its captions are shown; what went wrong is said. */

import { offerCamera } from "./camera.js";
import { watchInputs } from "./inputs.js";
import { attend } from "./words.js";

const by = (id) => document.getElementById(id);
const page = document.body, picture = by("picture"), captions = by("captions"), live = by("live");
const canvas = document.querySelector(".heat"), frame = document.querySelector(".frame");
const mostBytes = Number(page.dataset.maxBytes);
const RETRIES = 3; /* of a server that is busy */
const REMEMBERED = 30; /* pictures of this visit */
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");

let sending = null; /* the request that is under way */
let current = null; /* the entry of the history that is shown */

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/* What is announced twice would be read once. */
function say(text) {
  live.textContent = "";
  setTimeout(() => { live.textContent = text; }, 50);
}

function percent(probability) {
  if (probability < 0.001) return "< 0.1 %";
  return `${probability >= 0.0995 ? Math.round(100 * probability) : (100 * probability).toPrecision(2)} %`;
}

/* A picture comes in. */

async function take(file, name) {
  sending?.abort();
  const mine = sending = new AbortController();
  const entry = { url: URL.createObjectURL(file), name, captions: null, attention: null };
  await show(entry);
  if (mine.signal.aborted) return;
  if (file.size > mostBytes) {
    return fail(`The file has ${(file.size / 1e6).toFixed(1)} MB, and this server takes up to `
      + `${(mostBytes / 1e6).toPrecision(3) / 1} MB. Make it smaller, and try again.`);
  }
  page.dataset.state = "busy";
  captions.parentElement.setAttribute("aria-busy", "true");
  say("Looking at the picture");
  const start = performance.now();
  try {
    Object.assign(entry, await ask(file, mine.signal));
    entry.seconds = (performance.now() - start) / 1000;
    remember(entry);
    tell(entry, true);
  } catch (error) {
    if (!mine.signal.aborted) fail(error.message);
  }
}

/* The answer of the server; an Error's message is for people. */
async function ask(file, signal, retries = RETRIES) {
  const form = new FormData();
  form.set("image", file);
  form.set("k", "5");
  form.set("attention", "true");
  let answer, body = null;
  try {
    answer = await fetch("api/caption", { method: "POST", body: form, signal });
    body = await answer.json().catch(() => null);
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Error("The server doesn't answer. Check that it is running, then try again.");
  }
  if (answer.ok && body) return body;
  if (answer.status === 503 && retries > 0) {
    const seconds = Number(answer.headers.get("Retry-After")) || 1;
    await new Promise((resume) => setTimeout(resume, 1000 * seconds));
    signal.throwIfAborted();
    return ask(file, signal, retries - 1);
  }
  throw new Error(body?.error?.message ?? `The server answered ${answer.status}, and not why. Try again.`);
}

/* What is shown. */

/* The picture of an entry, as far as the browser can show it. */
async function show(entry) {
  current = entry;
  canvas.classList.remove("on");
  by("problem").replaceChildren();
  captions.replaceChildren();
  by("hint").hidden = true;
  by("name").textContent = entry.name;
  picture.src = entry.url;
  const isShown = await picture.decode().then(() => true, () => false);
  if (current !== entry) return;
  picture.alt = `Your picture: ${entry.name}`;
  frame.style.setProperty("--w", picture.naturalWidth || 4);
  frame.style.setProperty("--h", picture.naturalHeight || 3);
  document.querySelector(".shown").hidden = !isShown;
  document.querySelector(".invitation").hidden = isShown;
  markCurrent();
}

function tell(entry, isNew) {
  page.dataset.state = "done";
  captions.parentElement.removeAttribute("aria-busy");
  const most = Math.max(...entry.captions.map((one) => one.probability));
  const lines = entry.captions.map((one, i) => line(one, entry.attention?.[i], most));
  captions.replaceChildren(...lines.map(({ item }) => item));
  by("name").textContent = `${entry.name} · ${Math.max(entry.seconds, 0.1).toFixed(1)} s`;
  by("hint").hidden = false;
  by("hint").textContent = (entry.attention ? "Point at a word, or tap it, to see where the model looked. " : "")
    + "The percentage is how likely it is to say exactly this; bars compare with the first.";
  requestAnimationFrame(() => requestAnimationFrame(() => captions.classList.add("risen")));
  if (!isNew) return say("");
  const [best] = entry.captions;
  say(`${entry.captions.length} captions. The best, ${percent(best.probability)}: ${best.caption}`);
  if (entry.attention && !isCalm.matches) lines[0].words.play();
}

function line({ caption, probability }, attention, most) {
  const item = element("li", "caption-item"), text = element("p", "caption", caption || "(no words)");
  const bar = element("span", "bar"), odds = element("span", "odds", percent(probability));
  const copy = element("button", "copy");
  captions.classList.remove("risen");
  text.dir = "auto";
  bar.setAttribute("aria-hidden", "true");
  bar.append(element("i"));
  bar.style.setProperty("--share", most > 0 ? probability / most : 0);
  odds.setAttribute("aria-label", `probability ${percent(probability)}`);
  odds.setAttribute("role", "img");
  copy.type = "button";
  copy.title = "Copy";
  copy.setAttribute("aria-label", `Copy: ${caption}`);
  copy.append(icon("M9 9h10v11H9zM5 15V4h10"));
  copy.addEventListener("click", () => copied(copy, caption));
  const meta = element("div", "meta");
  meta.append(bar, odds, copy);
  item.append(text, meta);
  return { item, words: attention?.words.length ? attend(text, attention, canvas) : null };
}

async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { /* a page that is not from this machine may not, without TLS */
    const area = element("textarea", "unseen", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  say("Copied");
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 1400);
}

function fail(message) {
  page.dataset.state = "failed";
  captions.parentElement.removeAttribute("aria-busy");
  live.textContent = "";
  by("problem").replaceChildren(
    icon("M12 7.5v6m0 3v.01M12 3.5l9.5 16.5h-19z"), element("p", "", message));
  by("problem").scrollIntoView({ block: "nearest" });
}

/* This visit. */

function remember(entry) {
  const item = element("li"), button = element("button", "thumb"), image = element("img");
  const list = by("seen");
  button.type = "button";
  button.setAttribute("aria-label", `${entry.name}: ${entry.captions[0].caption}`);
  button.title = entry.captions[0].caption;
  Object.assign(image, { src: entry.url, alt: "", width: 96, height: 96 });
  button.append(image);
  button.addEventListener("click", async () => {
    sending?.abort();
    await show(entry);
    if (current === entry) tell(entry, false);
  });
  item.append(button);
  item.entry = entry;
  list.prepend(item);
  document.querySelector(".history").hidden = false;
  if (list.children.length > REMEMBERED) {
    URL.revokeObjectURL(list.lastElementChild.entry.url);
    list.lastElementChild.remove();
  }
  markCurrent();
}

function markCurrent() {
  for (const item of by("seen").children) {
    item.firstElementChild.setAttribute("aria-pressed", String(item.entry === current));
  }
}

offerCamera(by("camera"), by("shot"), (file) => take(file, "from the camera"), fail);
watchInputs(take, fail, say);
