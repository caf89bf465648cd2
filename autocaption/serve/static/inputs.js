/* The ways in: file, sample, clipboard, drop. A way has a picture's file, or a sentence about what went wrong. */

const by = (id) => document.getElementById(id);
const UNREACHABLE = "The server doesn't answer. Check that it is running, then try again.";

/* Calls take(file, name) for each picture that comes in, fail(sentence) for what was none, and say(sentence). */
export function watchInputs(take, fail, say) {
  by("choose").addEventListener("click", () => by("file").click());
  by("file").addEventListener("change", () => {
    if (by("file").files.length) take(by("file").files[0], by("file").files[0].name);
    by("file").value = ""; /* so that the same file may be chosen again */
  });

  for (const sample of document.querySelectorAll("[data-sample]")) {
    sample.addEventListener("click", async () => {
      const answer = await fetch(sample.dataset.sample).catch(() => null);
      if (!answer?.ok) return fail(UNREACHABLE);
      take(new File([await answer.blob()], "scene.png"), "a drawn scene");
      by("results").scrollIntoView({ block: "nearest" });
    });
  }

  const takeFirst = (files, otherwise) => {
    if (!files.length) return fail(otherwise);
    take(files[0], files[0].name || "from the clipboard");
    if (files.length > 1) say(`One picture at a time: this is the first of ${files.length}.`);
  };
  addEventListener("paste", (event) => {
    takeFirst(event.clipboardData.files, "There is no picture in the clipboard. Copy one, and paste again.");
  });

  let depth = 0; /* elements that a drag is over */
  const drag = (change) => {
    depth = change === 0 ? 0 : depth + change;
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", () => drag(1));
  addEventListener("dragleave", () => drag(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    drag(0);
    takeFirst(event.dataTransfer.files, "That was no file. Save the picture, then drop its file here.");
  });
}
