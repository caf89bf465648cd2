"""The page in a real browser: by mouse, by keyboard, on a phone, and by the rules of accessibility.

Screenshots are left in build/screenshots.
"""

import base64
import json

import pytest
from helpers import ROOT
from helpers.browser import CHROMIUM, browser
from helpers.serving import FakeModel, picture, running, service, web

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
SHOTS, AXE = ROOT / "build/screenshots", ROOT / "build/axe/package/axe.min.js"
CAPTIONS = "[...document.querySelectorAll('#captions .caption')].map((one) => one.textContent.trim())"
DONE = "document.body.dataset.state === 'done' && document.querySelectorAll('#captions li').length"
PROBLEM = "document.querySelector('#problem').textContent"
FAILED = f"document.body.dataset.state === 'failed' && {PROBLEM}"
LIVE = "document.querySelector('#live').textContent"
WORD_ON = "document.querySelector('.word.on')?.textContent"
REFUSED = ("415", "413")  # Chromium logs each refused request as an error


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with browser(tmp_path_factory.mktemp("profile"), *camera) as page:
        yield page


@pytest.fixture(scope="module")
def address():
    with running(web(service(FakeModel()))) as url:
        yield url


@pytest.fixture
def page(chromium, address):
    chromium.errors.clear()
    chromium.open(address, calm=True)  # no word lights up by itself
    yield chromium
    chromium.run("localStorage.clear()")
    assert [one for one in chromium.errors if not any(code in str(one) for code in REFUSED)] == []


def file_in_page(name, content, type):
    """A JavaScript expression for a DataTransfer with a file."""
    encoded = base64.b64encode(content).decode()
    bytes_ = f"Uint8Array.from(atob('{encoded}'), (one) => one.charCodeAt())"
    return (
        f"(() => {{ const data = new DataTransfer(); data.items.add(new File([{bytes_}], {name!r},"
        f"{{type: {type!r}}})); return data }})()"
    )


def drop(page, *file):
    page.run(f"void dispatchEvent(new DragEvent('drop', {{dataTransfer: {file_in_page(*file)}}}))")


def upload(page, tmp_path, colour="red"):
    file = tmp_path / f"{colour}.png"
    file.write_bytes(picture(colour))
    page.choose("#file", file)
    page.until(DONE)


def focus_by_tab(page, selector, most=40):
    for _ in range(most):
        page.key("Tab")
        if page.run(f"document.activeElement.matches({selector!r})"):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_a_picture_gets_five_captions_with_bars(page, tmp_path):
    upload(page, tmp_path)
    assert page.run(CAPTIONS) == [
        "a red 255-0-0", "a red dog 255-0-0", "a red dog runs 255-0-0", "a red dog runs fast 255-0-0",
        "a red dog runs fast 255-0-0",
    ]  # fmt: skip
    odds = page.run("[...document.querySelectorAll('.odds')].map((one) => one.textContent)")
    assert odds == ["50 %", "25 %", "13 %", "6.3 %", "3.1 %"]
    page.until("document.querySelector('#captions.risen')")
    widths = page.run(
        "[...document.querySelectorAll('.bar')].map((bar) =>"
        "bar.firstElementChild.getBoundingClientRect().width / bar.getBoundingClientRect().width)"
    )
    assert widths == pytest.approx([1, 0.5, 0.25, 0.125, 0.0625], abs=0.01)
    page.until(f"{LIVE}.includes('a red 255-0-0')")
    assert page.run("document.querySelector('#picture').naturalWidth") == 40


def test_a_word_shows_where_the_model_looked(page, tmp_path):
    upload(page, tmp_path)
    page.hover("#captions li:nth-child(2) .word:nth-child(2)")
    assert page.run(WORD_ON) == "red"
    page.until("getComputedStyle(document.querySelector('.heat')).opacity === '1'")
    # The second of two by two places; of the picture's width the model sees the middle three quarters.
    veil = (
        "[[32, 32], [96, 32], [32, 96], [96, 96], [4, 32]].map(([x, y]) =>"
        "document.querySelector('.heat').getContext('2d').getImageData(x, y, 1, 1).data[3])"
    )
    alphas = page.run(veil)
    assert alphas.index(min(alphas)) == 1
    assert max(alphas) == alphas[4] > 3 * alphas[1]
    page.screenshot(SHOTS / "word.png")
    page.hover("h1")
    assert page.run(WORD_ON) is None


def test_a_tapped_word_stays(page, tmp_path):
    upload(page, tmp_path)
    page.click("#captions li:nth-child(1) .word:nth-child(1)")
    page.hover("h1")
    assert page.run(WORD_ON) == "a"
    page.click("#captions li:nth-child(2) .word:nth-child(3)")
    page.hover("h1")
    assert page.run(WORD_ON) == "dog"
    assert page.run("document.querySelectorAll('.word[aria-pressed=true]').length") == 1


def test_a_text_is_refused_with_a_reason(page):
    drop(page, "notes.txt", b"hello", "text/plain")
    page.until(FAILED)
    assert "not a picture" in page.run(PROBLEM)
    page.screenshot(SHOTS / "refused.png")
    drop(page, "blue.png", picture("blue"), "image/png")
    page.until(DONE)
    assert page.run(CAPTIONS)[0] == "a red 0-0-255"
    assert page.run(PROBLEM) == ""


def test_a_large_file_is_not_sent(page):
    drop(page, "large.png", b"x" * 200_001, "image/png")
    page.until(FAILED)
    assert "takes up to 0.2 MB" in page.run(PROBLEM)


def test_paste(page):
    paste = "void dispatchEvent(new ClipboardEvent('paste', {{clipboardData: {}}}))"
    page.run(paste.format(file_in_page("image.png", picture("lime"), "image/png")))
    page.until(DONE)
    assert page.run(CAPTIONS)[0] == "a red 0-255-0"
    page.run(paste.format("new DataTransfer()"))
    page.until(FAILED)
    assert "no picture in the clipboard" in page.run(PROBLEM)


def test_a_server_that_is_gone(page):
    page.run("void (window.fetch = () => Promise.reject(new TypeError('Failed to fetch')))")
    drop(page, "blue.png", picture("blue"), "image/png")
    page.until(FAILED)
    assert "doesn't answer" in page.run(PROBLEM)


def test_a_busy_server_is_asked_again(page):
    page.run(
        "(() => { const real = fetch; let first = true; window.fetch = (...asked) => { if (!first)"
        "return real(...asked); first = false; return Promise.resolve(new Response('{}', {status: 503,"
        "headers: {'Retry-After': '0.01'}})) } })()"
    )
    drop(page, "blue.png", picture("blue"), "image/png")
    page.until(DONE)
    assert page.run(CAPTIONS)[0] == "a red 0-0-255"


def test_by_keyboard_alone(page):
    focus_by_tab(page, "[data-sample]")
    page.key("Enter")
    page.until(DONE)
    page.run("document.activeElement.blur()")
    focus_by_tab(page, "#captions li:nth-child(1) .word")
    assert page.run(WORD_ON) == "a"
    page.key("ArrowRight")
    assert page.run(WORD_ON) == "red"
    page.key("Enter")
    assert page.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.key("Tab")
    assert page.run("document.activeElement.className") == "copy"
    page.key("Tab")
    assert page.run("document.activeElement.matches('#captions li:nth-child(2) .word')")


def test_the_words_of_the_best_caption_light_up_in_turn(page, address):
    page.open(address)
    page.run(
        "(() => { window.seen = []; new MutationObserver(() => {"
        "const on = document.querySelector('.word.on'); if (on) seen.push(on.textContent) })"
        ".observe(document.querySelector('#captions'), {subtree: true, attributes: true}) })()"
    )
    drop(page, "red.png", picture(), "image/png")
    page.until(f"{DONE} && seen.length && !document.querySelector('.word.on')")
    assert page.run("[...new Set(seen)]") == ["a", "red", "255-0-0"]


def test_copy(page, address, tmp_path):
    page.call("Browser.grantPermissions", origin=address, permissions=["clipboardReadWrite"])
    upload(page, tmp_path)
    page.click("#captions li:nth-child(2) .copy")
    page.until(f"{LIVE} === 'Copied'")
    assert page.run("navigator.clipboard.readText()") == "a red dog 255-0-0"


def test_the_history_of_this_visit(page, tmp_path):
    assert page.run("document.querySelector('.history').hidden")
    for colour in ("red", "blue"):
        upload(page, tmp_path, colour)
        page.until(
            f"document.querySelectorAll('#seen button').length === {('red', 'blue').index(colour) + 1}"
        )
    page.click("#seen li:nth-child(2) button")
    page.until(f"({CAPTIONS})[0] === 'a red 255-0-0'")
    pressed = "[...document.querySelectorAll('#seen button')].map((one) => one.ariaPressed)"
    assert page.run(pressed) == ["false", "true"]


def test_the_camera(page):
    page.click("#camera")
    page.until("document.querySelector('#finder').open")
    page.click("[data-take]")
    page.until(DONE)
    assert not page.run("document.querySelector('#finder').open")
    assert page.run("document.querySelector('#name').textContent").startswith("from the camera")


def test_a_model_that_does_not_attend_shows_plain_words(chromium):
    with running(web(service(FakeModel(attends=False)))) as url:
        chromium.open(url)
        drop(chromium, "red.png", picture(), "image/png")
        chromium.until(DONE)
        assert chromium.run(CAPTIONS)[0] == "a red 255-0-0"
        assert chromium.run("document.querySelectorAll('.word').length") == 0


@pytest.mark.slow  # make test-browser runs it
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("mobile", [False, True])
def test_looks(page, address, tmp_path, mobile, dark):
    size = {"width": 390, "height": 844} if mobile else {"width": 1280, "height": 860}
    page.open(address, **size, mobile=mobile, dark=dark, calm=True)
    name = f"{'phone' if mobile else 'desktop'}-{'dark' if dark else 'light'}"
    page.screenshot(SHOTS / f"{name}-empty.png")
    brightness = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert (page.run(brightness) < 128) == dark
    page.click("[data-sample]")
    page.until(DONE)
    page.until("document.querySelector('#captions.risen')")
    page.screenshot(SHOTS / f"{name}.png")
    assert page.run("document.documentElement.scrollWidth") == size["width"]
    page.click("#theme")
    assert (page.run(brightness) < 128) != dark


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not here; make test-browser fetches it")
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_violation(page, address, tmp_path, dark):
    page.open(address, dark=dark, calm=True)
    page.run(AXE.read_text() + "; 0")
    found = {}
    for state, enter in {
        "empty": lambda: None,
        "done": lambda: upload(page, tmp_path),
        "word": lambda: page.click("#captions .word"),
        "failed": lambda: (drop(page, "notes.txt", b"hello", "text/plain"), page.until(FAILED)),
    }.items():
        enter()
        broken = page.run("axe.run().then(({violations}) => violations.map((one) =>"
                          "[one.id, one.nodes.map((node) => node.html)]))")  # fmt: skip
        if broken:
            found[state] = broken
    assert found == {}, json.dumps(found, indent=1)
