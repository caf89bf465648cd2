"""A headless Chromium, driven by the DevTools protocol over a pair of pipes; needs no driver."""

import base64
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from itertools import count

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """A tab; `errors` holds what its scripts threw and what its policy refused."""

    def __init__(self, send, receive):
        self._send, self._receive, self._numbers, self.errors = send, receive, count(1), []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    session = None

    def call(self, method, **parameters):
        """The result of a command."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._send({**message, "sessionId": self.session} if self.session else message)
        return self._until(lambda answer: answer.get("id") == number, method).get("result", {})

    def _until(self, wanted, what):
        while True:
            answer = self._receive()
            if answer is None:
                raise RuntimeError(f"Chromium ended during {what}")
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(answer["params"]["exceptionDetails"])
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.errors.append(answer["params"]["entry"])
            if wanted(answer):
                if "error" in answer:
                    raise RuntimeError(f"{what}: {answer['error']}")
                return answer

    def open(self, place, width=1280, height=900, mobile=False, dark=False, calm=False):
        """Load a file, or an address, in a window of this size; without motion if calm."""
        scale = 2 if mobile else 1
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)
        media = {"color-scheme": "dark" if dark else "light", "reduced-motion": "reduce" if calm else ""}
        features = [{"name": f"prefers-{name}", "value": value} for name, value in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)
        url = place if isinstance(place, str) else place.absolute().as_uri()
        self.call("Page.navigate", url=url)
        self._until(lambda answer: answer.get("method") == "Page.loadEventFired", "loading")

    def run(self, script):
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def until(self, condition):
        """Wait until a JavaScript expression is true."""
        met = f"(async () => {{ while (!({condition})) await new Promise((go) => setTimeout(go, 10)); }})()"
        self.run(met)

    def hover(self, selector):
        """Move the mouse to the middle of an element; gives the place."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center',"
            "behavior: 'instant'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2] })()"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        return x, y

    def click(self, selector):
        """A click of the mouse in the middle of an element."""
        x, y = self.hover(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector, text):
        """Focus an element and type."""
        self.click(selector)
        self.call("Input.insertText", text=text)

    def key(self, name):
        """Press a key, such as ArrowRight or Escape."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}[name]
        key = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key, **({"text": "\r"} if code == 13 else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def choose(self, selector, file):
        """Give a file to an input, as its dialog would."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def screenshot(self, file):
        """Write the whole page as a picture."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(profile, *more):
    """A page of a new Chromium whose profile lies in a folder; it ends with the block.

    Args:
        more: words of its command line.
    """
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()

    def pipes():  # Chromium reads commands from file descriptor 3 and answers on 4
        moved = os.dup(commands), os.dup(answers)
        os.dup2(moved[0], 3)
        os.dup2(moved[1], 4)

    words = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--remote-debugging-pipe",
    )
    words += ("--no-first-run", "--disable-dev-shm-usage", f"--user-data-dir={profile}", *more)
    process = subprocess.Popen(
        [CHROMIUM, *words], stderr=subprocess.DEVNULL, preexec_fn=pipes, close_fds=False
    )
    os.close(commands)
    os.close(answers)
    with open(to_browser, "wb") as out, open(from_browser, "rb") as back:
        waiting = bytearray()

        def send(message):
            out.write(json.dumps(message).encode() + b"\0")
            out.flush()

        def receive():
            while b"\0" not in waiting:
                read = os.read(back.fileno(), 2**16)
                if not read:
                    return None
                waiting.extend(read)
            message, _, rest = bytes(waiting).partition(b"\0")
            waiting[:] = rest
            return json.loads(message)

        try:
            yield Page(send, receive)
        finally:
            process.kill()
            process.wait()
