"""The report in a real browser: it sorts, searches, opens an image and shows where a word looked."""

from itertools import combinations

import pytest
from helpers import ROOT
from helpers.browser import CHROMIUM, browser
from PIL import Image

from autocaption.data.__main__ import main
from autocaption.data.sources import CaptionedImage
from autocaption.metrics.bootstrap import Comparison
from autocaption.report.heat_maps import HeatMaps
from autocaption.report.html import write_page
from autocaption.report.run_report import write_report
from autocaption.report.system import Sentence, System

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
AXE = ROOT / "build/axe/package/axe.min.js"
SHOWN = "[...document.querySelectorAll('#images .card')].filter(c => c.offsetParent).map(c => c.dataset.id)"
CAPTIONS = {"a": "two dogs run", "b": "a cat sleeps", "c": "the dog sleeps", "d": "ein Ärger"}
SCORES = {"a": 0.5, "b": 0.25, "c": 1.5, "d": 0.75}
ANYWHERE = (0.0, 0.0, 1.0, 1.0)


def sentence(id, score):
    maps = HeatMaps(2, "_AAAA_AAAAA_") if id == "a" else None
    return Sentence(CAPTIONS[id], {"cider": score}, maps)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "report.html"
    images = [CaptionedImage(id, None, "test", (f"reference {id}", "a lake")) for id in CAPTIONS]
    curves = {"train/loss": [(i, 1 / (i + 1)) for i in range(50)], "val/loss": [(20, 0.5), (40, 0.25)]}
    system = System(
        "beam", "test", {"test/cider": 0.75}, {"test/cider": (0.5, 1.0)}, curves,
        {id: sentence(id, score) for id, score in SCORES.items()},
    )  # fmt: skip

    def read(image, least):
        return Image.new("RGB", (40, 30), "red")

    write_report(file, "RUN", [system], images, read, lambda width, height: ANYWHERE, None)
    return file


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(chromium, report):
    chromium.errors.clear()
    chromium.open(report)
    yield chromium
    assert chromium.errors == []


def choose(page, selector, value):
    page.run(
        f"(() => {{ const e = document.querySelector('{selector}'); e.value = '{value}';"
        "e.dispatchEvent(new Event('change', {bubbles: true})) })()"
    )


def test_sorts(page):
    assert page.run(SHOWN) == ["a", "b", "c", "d"]
    for value, ids in (("0 0 -1", "cdab"), ("0 0 1", "badc"), ("caption", "bdca"), ("", "abcd")):
        choose(page, "#sort", value)
        assert page.run(SHOWN) == list(ids)


@pytest.mark.parametrize(
    ("text", "within", "ids"),
    [
        ("dog", "", "ac"),
        ("DOG sleep", "", "c"),
        ("ärger", "", "d"),
        ("reference", "caption", ""),
        ("reference b", "references", "b"),
        ("lake", "", "abcd"),
        ("og", "", ""),
    ],
)
def test_searches_by_word(page, text, within, ids):
    choose(page, "#within", within)
    page.type("#query", text)
    assert page.run(SHOWN) == list(ids)
    assert page.run("document.querySelector('#found').textContent") == f"{len(ids)} of 4 images"


def test_opens_an_image_and_turns_the_pages(page):
    choose(page, "#sort", "0 0 -1")
    page.click("#images .card[data-id=a] button")
    viewer = "document.querySelector('#viewer')"
    assert page.run(f"{viewer}.open")
    text = page.run(f"{viewer}.innerText")
    for part in ("3 of 4", "two dogs run", "reference a", "a lake", "CIDEr-D 0.500"):
        assert part in text
    page.key("ArrowRight")
    assert "a cat sleeps" in page.run(f"{viewer}.innerText")
    page.key("ArrowRight")
    assert "the dog sleeps" in page.run(f"{viewer}.innerText")
    page.click("#viewer [data-by='-1']")
    assert "a cat sleeps" in page.run(f"{viewer}.innerText")
    page.key("Escape")
    assert not page.run(f"{viewer}.open")


def test_a_word_shows_where_it_looked(page):
    page.click("#images .card[data-id=a] button")
    assert page.run("document.querySelectorAll('#viewer .strip button').length") == 3
    page.click("#viewer .word:nth-child(2)")
    assert page.run("document.querySelector('#viewer .word.on').textContent") == "dogs"
    veil = (
        "document.querySelector('#viewer .picture .heat.on').getContext('2d').getImageData(0, 0, 2, 2).data"
    )
    alphas = page.run(f"[3, 7, 11, 15].map(i => {veil}[i])")
    assert alphas.index(min(alphas)) == 1  # the place that the word looked at is the brightest
    assert alphas[0] == alphas[2] == alphas[3] > 3 * alphas[1]


def test_a_chart_tells_its_values(page):
    page.run("document.querySelector('#curves').scrollIntoView({behavior: 'instant'})")
    x, y = page.run(
        "(b => [b.right - 15, b.y + 50])(document.querySelector('#curves svg').getBoundingClientRect())"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert "validation  0.25" in page.run("document.querySelector('#curves .tip').textContent")


@pytest.mark.parametrize("dark", [False, True])
def test_follows_the_system_s_colours_until_told_otherwise(page, report, dark):
    page.open(report, dark=dark)
    brightness = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert (page.run(brightness) < 128) == dark
    page.click("#theme")
    assert (page.run(brightness) < 128) != dark
    page.run("localStorage.clear()")


def test_fits_a_phone(page, report):
    page.open(report, width=360, height=740, mobile=True)
    assert page.run("document.documentElement.scrollWidth") == 360
    require_accessible(page)


def test_a_comparison_fits_a_phone_and_keeps_the_names_of_metrics(chromium, tmp_path):
    names = ["a model with a rather long name", "another_one_that_cannot_be_broken", "a third"]
    systems = [
        System(name, "test", {"test/cider": 0.75, "test/bleu4": 0.25}, {"test/cider": (0.5, 1.0)})
        for name in names
    ]
    found = {"cider": Comparison(0.5, 0.25, 1.0, 0.002), "bleu4": Comparison(0.0, -0.5, 0.25, 0.5)}
    compared = dict.fromkeys(combinations(names, 2), found)
    write_report(file := tmp_path / "r.html", "RUN", systems, [], None, None, None, compared=compared)
    chromium.errors.clear()
    chromium.open(file, width=360, height=740, mobile=True)
    assert chromium.run("document.documentElement.scrollWidth") == 360
    inside = "(row => row.scrollWidth <= row.clientWidth)"
    assert chromium.run(f"[...document.querySelectorAll('.pairs li')].every({inside})")
    assert chromium.run("document.querySelectorAll('.pairs li').length") == 6
    place = "document.querySelector('tbody th').getBoundingClientRect().x"
    before = chromium.run(place)
    moved = chromium.run("(w => (w.scrollLeft = 100, w.scrollLeft))(document.querySelector('.wide'))")
    assert moved == 100
    assert chromium.run(place) == before
    assert chromium.errors == []
    require_accessible(chromium)


def require_accessible(page):
    """By axe-core, where make test-browser has fetched it."""
    if AXE.is_file():
        page.call("Runtime.evaluate", expression=AXE.read_text())
        found = "({violations}) => violations.map((one) => [one.id, one.nodes.map((node) => node.html)])"
        assert page.run(f"axe.run().then({found})") == []


def test_a_sweep_s_page_has_no_errors(chromium, tmp_path):
    values = {"summary": "", "best": [], "charts": [], "columns": [], "trials": [], "plotly": ""}
    write_page(tmp_path / "sweep.html", "sweep.html", title="Sweep", **values)
    chromium.errors.clear()
    chromium.open(tmp_path / "sweep.html", dark=True)
    chromium.click("#theme")
    assert chromium.run("document.documentElement.dataset.theme") == "light"
    chromium.run("localStorage.clear()")
    assert chromium.errors == []


def test_the_page_of_a_data_set_obeys_its_policy(chromium, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["inspect", *(f"data.source.{split}=3" for split in ("train", "val", "test"))])
    chromium.errors.clear()
    chromium.open(tmp_path / "data.html")
    chromium.run("document.getElementById('theme').click()")
    assert chromium.run("document.documentElement.dataset.theme") in ("dark", "light")
    assert chromium.run("document.querySelectorAll('img').length") > 6
    assert chromium.errors == []
    require_accessible(chromium)
