/* A picture from the camera: the phone's own app, or a window with what a webcam sees. */

const finder = document.getElementById("finder"), video = finder.querySelector("video");

/* Shows `button` where there may be a camera; `take` gets the picture's file, `fail` a sentence. */
export function offerCamera(button, shot, take, fail) {
  const isPhone = matchMedia("(pointer: coarse)").matches;
  const hasWebcam = Boolean(navigator.mediaDevices?.getUserMedia);
  button.hidden = !(isPhone || hasWebcam);
  shot.addEventListener("change", () => {
    if (shot.files.length) take(shot.files[0]);
    shot.value = "";
  });
  button.addEventListener("click", () => (isPhone ? shot.click() : open(fail)));
  finder.querySelector("[data-take]").addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    finder.close();
    canvas.toBlob((blob) => take(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92);
  });
  finder.querySelector("[data-close]").addEventListener("click", () => finder.close());
  finder.addEventListener("close", () => {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  });
}

async function open(fail) {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await video.play();
    finder.showModal();
  } catch (error) {
    fail(error.name === "NotAllowedError"
      ? "The browser does not let this page use the camera. Allow it in the address bar, or choose a picture."
      : "No camera answers. Choose a picture instead.");
  }
}
