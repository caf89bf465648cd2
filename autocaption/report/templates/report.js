"use strict";
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const names = JSON.parse(document.getElementById("names").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* Heat maps: what a word looked at stays bright and warm, the rest goes dark. */

function heatCanvas(frame, seen) {
  let canvas = frame.querySelector(".heat");
  if (!canvas) {
    canvas = element("canvas", "heat");
    const [left, top, right, bottom] = (seen ?? "0 0 1 1").trim().split(" ").map(Number);
    Object.assign(canvas.style, {
      left: `${100 * left}%`, top: `${100 * top}%`,
      width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%`,
    });
    frame.append(canvas);
  }
  return canvas;
}

function drawHeat(canvas, said, word) {
  const side = Number(said.dataset.side);
  const digits = said.dataset.maps.slice(word * side * side, (word + 1) * side * side);
  canvas.width = canvas.height = side;
  const pixels = new ImageData(side, side);
  [...digits].forEach((digit, i) => {
    const heat = (DIGITS.indexOf(digit) / 63) ** 2; /* for contrast */
    const warm = [30 + 225 * heat, 15 + 135 * heat, 20 + 20 * heat];
    pixels.data.set([...warm, 255 * (0.82 - 0.68 * heat)], 4 * i);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/* Words of an attending decoder's caption become buttons that show their map on the picture of `frame`. */
function attend(said, frame, seen) {
  const text = said.querySelector(".text");
  if (!said.dataset.maps || !frame || text.querySelector(".word")) return [];
  const words = text.textContent.split(" ").filter(Boolean);
  const canvas = heatCanvas(frame, seen);
  let held = null;
  const spans = words.map((word) => element("span", "word", word));
  const show = (i) => {
    spans.forEach((span, j) => span.classList.toggle("on", i === j));
    if (i !== null) drawHeat(canvas, said, i);
    canvas.classList.toggle("on", i !== null);
  };
  spans.forEach((span, i) => {
    span.tabIndex = 0;
    span.setAttribute("role", "button");
    span.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show(i));
    span.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(held));
    span.addEventListener("click", () => show(held = held === i ? null : i));
    span.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      span.click();
    });
  });
  text.replaceChildren(...spans.flatMap((span) => [span, " "]));
  return words.map((word, i) => ({ word, pick: () => spans[i].click(), span: spans[i] }));
}

for (const card of all(".cards .card")) {
  for (const said of all(".said", card)) attend(said, card.querySelector(".frame"), card.dataset.seen);
}
const attends = document.querySelector(".said[data-maps]");
for (const hint of all(".attends")) hint.hidden = !attends;

/* The viewer: one image large, and the others of its list a key away. */

const viewer = document.getElementById("viewer");
let list = [], at = 0;

function view(cards, index) {
  list = cards;
  at = (index + cards.length) % cards.length;
  const card = cards[at];
  viewer.querySelector(".name").textContent = `${at + 1} of ${cards.length}  ·  ${card.dataset.id}`;
  const body = viewer.querySelector(".viewer-body"), strip = viewer.querySelector(".strip");
  const picture = element("div", "picture"), text = element("div");
  const image = card.querySelector("img");
  viewer.style.cssText = card.style.cssText;
  const frame = () => {
    const made = element("span", "frame");
    made.append(image.cloneNode());
    return made;
  };
  const large = frame();
  picture.append(large);
  body.replaceChildren(picture, text);
  strip.replaceChildren();
  for (const original of all(".said", card)) {
    const said = original.cloneNode(true);
    const line = said.querySelector(".text");
    line.textContent = line.textContent.trim();
    said.querySelector(".score")?.remove();
    const scores = original.dataset.scores.trim().split(" ");
    const values = names.metrics.map((metric, i) => [metric, scores[i]]).filter(([, value]) => value !== "-");
    const score = element("p", "score");
    if (names.systems.length > 1) score.append(element("span", "", names.systems[original.dataset.system]));
    for (const [metric, value] of values) score.append(element("span", "", `${metric} ${Number(value).toFixed(3)}`));
    if (score.childNodes.length) said.append(score);
    text.append(said);
    attend(said, large, card.dataset.seen).forEach(({ word, pick, span }, i) => {
      const small = frame(), button = element("button");
      const canvas = heatCanvas(small, card.dataset.seen);
      drawHeat(canvas, said, i);
      canvas.classList.add("on");
      button.type = "button";
      button.append(small, element("bdi", "", word));
      button.addEventListener("click", pick);
      new MutationObserver(() => button.classList.toggle("on", span.classList.contains("on")))
        .observe(span, { attributeFilter: ["class"] });
      strip.append(button);
    });
  }
  const references = card.querySelector(".references").cloneNode(true);
  if (references.children.length) text.append(element("h3", "", "References"), references);
  if (!viewer.open) viewer.showModal();
  viewer.focus(); /* on no button, so that the arrow keys turn the pages */
  viewer.scrollTop = 0;
}

document.addEventListener("click", (event) => {
  const picture = event.target.closest("button.picture");
  if (!picture) return;
  const card = picture.closest(".card");
  const cards = all(".card", card.parentElement).filter((one) => !one.hidden);
  view(cards, cards.indexOf(card));
});
viewer.addEventListener("click", (event) => {
  const { by, close } = event.target.dataset;
  if (by) view(list, at + Number(by));
  if (close !== undefined || event.target === viewer) viewer.close();
});
viewer.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) view(list, at + by);
});

/* The gallery. */

const gallery = document.getElementById("images");
if (gallery) {
  const words = (nodes) => nodes.map((node) => node.textContent).join(" ").toLowerCase()
    .split(/[^\p{L}\p{M}\p{N}]+/u).filter(Boolean);
  const entries = all(".card", gallery).map((card, order) => ({
    card,
    order,
    text: card.querySelector(".text")?.textContent.trim() ?? "",
    caption: words(all(".text", card)),
    references: words(all(".references li", card)),
    scores: Object.fromEntries(all(".said", card).map((said) => [
      said.dataset.system, said.dataset.scores.trim().split(" ").map(Number),
    ])),
  }));
  const query = document.getElementById("query"), within = document.getElementById("within");
  const sort = document.getElementById("sort"), found = document.getElementById("found");

  /* Every word asked for must begin a word of the image's captions. */
  const search = () => {
    const wanted = words([{ textContent: query.value }]);
    let count = 0;
    for (const entry of entries) {
      const has = within.value ? entry[within.value] : entry.caption.concat(entry.references);
      const fits = wanted.every((want) => has.some((word) => word.startsWith(want)));
      entry.card.hidden = !fits;
      count += fits;
    }
    const number = (n) => n.toLocaleString("en");
    found.textContent = wanted.length ? `${number(count)} of ${number(entries.length)} images` : "";
  };

  const order = () => {
    const [system, metric, sign] = sort.value.split(" ");
    const score = (entry) => entry.scores[system]?.[metric];
    const ways = {
      "": () => 0,
      caption: (a, b) => a.text.localeCompare(b.text),
    };
    const byScore = (a, b) => {
      const [one, other] = [score(a), score(b)];
      if (Number.isFinite(one) && Number.isFinite(other)) return sign * (one - other);
      return Number.isFinite(other) - Number.isFinite(one); /* those without a score come last */
    };
    const way = ways[sort.value] ?? byScore;
    entries.sort((a, b) => way(a, b) || a.order - b.order);
    gallery.append(...entries.map((entry) => entry.card));
  };
  query.addEventListener("input", search);
  within.addEventListener("change", search);
  sort.addEventListener("change", order);
  if (query.value) search(); /* a browser may keep them when it goes back */
  if (sort.value) order();
}

/* Charts: the values at the pointer. */

for (const chart of all(".chart")) {
  const svg = chart.querySelector("svg");
  const [low, high, start, end] = chart.dataset.x.split(" ").map(Number);
  const lines = all("path", svg).map((path) => ({
    name: path.dataset.name,
    points: path.dataset.points.trim().split(" ").map((pair) => pair.split(",").map(Number)),
  }));
  const tip = element("div", "tip");
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
  tip.hidden = true;
  cursor.setAttribute("class", "cursor");
  chart.append(tip);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const across = (event.clientX - box.left) * scale;
    const x = low + (across - start) / (end - start) * (high - low);
    const nearest = lines.map(({ name, points }) => [name, points.reduce((best, point) =>
      Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best)]);
    const place = start + (nearest[0][1][0] - low) / ((high - low) || 1) * (end - start);
    for (const [key, value] of Object.entries({ x1: place, x2: place, y1: 8, y2: svg.viewBox.baseVal.height - 26 })) {
      cursor.setAttribute(key, value);
    }
    svg.append(cursor);
    tip.replaceChildren(element("div", "", Math.round(nearest[0][1][0] * 1000) / 1000),
      ...nearest.map(([name, [, y]]) => element("div", "", lines.length > 1 ? `${name}  ${y}` : `${y}`)));
    tip.hidden = false;
    const room = chart.clientWidth - tip.offsetWidth - 8;
    const at = place / scale + (box.left - chart.getBoundingClientRect().left);
    tip.style.left = `${at + 12 > room ? at - tip.offsetWidth - 12 : at + 12}px`;
  });
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true;
    cursor.remove();
  });
}
