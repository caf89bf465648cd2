/* A caption's words as buttons: the pointer, the focus or a tap shows where the model looked for one. */

import { drawHeat } from "./heat.js";

const PACE = 420; /* milliseconds a word */
let release = () => {}; /* lets go of the caption that has the picture; there is one picture */

/*
 * Fills `line` with the words of `attention` and returns { play, letGo }. A caption is one stop of the Tab key;
 * arrow keys go from word to word. What is tapped stays until it is tapped again.
 */
export function attend(line, attention, canvas) {
  let held = null, timer = null;
  const buttons = attention.words.map((word) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "word", textContent: word, tabIndex: -1 });
    button.setAttribute("aria-pressed", "false");
    return button;
  });

  const show = (at) => {
    if (release !== letGo) release();
    release = letGo;
    buttons.forEach((button, i) => button.classList.toggle("on", i === at));
    if (at !== null) drawHeat(canvas, attention, at);
    canvas.classList.toggle("on", at !== null);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
  };
  const hold = (at) => {
    held = at;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === at)));
    show(at);
  };
  const letGo = () => {
    stop();
    held = null;
    for (const button of buttons) {
      button.classList.remove("on");
      button.setAttribute("aria-pressed", "false");
    }
    canvas.classList.remove("on");
  };
  /* Every word in turn, once. */
  const play = () => {
    stop();
    let at = 0;
    show(at);
    timer = setInterval(() => {
      at += 1;
      if (at < buttons.length) return show(at);
      stop();
      show(held);
    }, PACE);
  };

  buttons.forEach((button, i) => {
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && (stop(), show(i)));
    button.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(held));
    button.addEventListener("focus", () => {
      buttons.forEach((other, j) => { other.tabIndex = i === j ? 0 : -1; });
      if (button.matches(":focus-visible")) (stop(), show(i));
    });
    button.addEventListener("blur", () => show(held));
    button.addEventListener("click", () => (stop(), hold(held === i ? null : i)));
    button.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (event.key === "Escape") hold(null);
      if (to === undefined) return;
      event.preventDefault();
      buttons[(to + buttons.length) % buttons.length].focus();
    });
  });
  if (buttons.length) buttons[0].tabIndex = 0;
  line.setAttribute("role", "group");
  line.setAttribute("aria-label", `${attention.words.join(" ")}. Arrow keys go from word to word.`);
  line.replaceChildren(...buttons.flatMap((button) => [button, " "]));
  return { play, letGo };
}
