"""The pages of reports: escaped, complete, and in need of no other file."""

import json
import re
from html.parser import HTMLParser
from itertools import combinations

import pytest
from PIL import Image

from autocaption.data.sources import CaptionedImage
from autocaption.metrics.bootstrap import Comparison
from autocaption.report.heat_maps import HeatMaps
from autocaption.report.html import number, title, write_page
from autocaption.report.run_report import write_report
from autocaption.report.system import Sentence, System

NASTY = """<b onload="x">&amp; 'q' {{ title }} {}</b></script>"""
VOID = {"meta", "img", "input", "line", "path", "circle", "br"}


class Tree(HTMLParser):
    """(tag, attributes) of every start tag, and the text within each tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else None, []).append(data)

    def of(self, tag, **wanted):
        """The attributes of each such tag."""
        return [one for name, one in self.tags if name == tag and wanted.items() <= one.items()]

    def cards(self):
        """The ids of the images shown in the gallery."""
        start = next(i for i, (_, one) in enumerate(self.tags) if one.get("id") == "images")
        return [one["data-id"] for _, one in self.tags[start:] if "data-id" in one]


def images(count, size=(40, 30)):
    return [CaptionedImage(f"i{i}", None, "test", (f"one {i}", f"two {i}")) for i in range(count)], (
        lambda image, least: Image.new("RGB", size, (int(image.id[1:]) % 256, 90, 160))
    )


def system(count, name="beam", scores=True, **changes):
    sentences = {
        f"i{i}": Sentence(f"caption {i}", {"cider": float(i), "bleu4": 1 / (i + 1)} if scores else {})
        for i in range(count)
    }
    metrics = {"test/bleu4": 0.25, "test/cider": 1.5, "val/bleu4": 0.5, "test/loss": 2.0}
    return System(name, "test", **{"metrics": metrics, "sentences": sentences, **changes})


def page(tmp_path, systems, count, most=None, seen=lambda width, height: (0.0, 0.0, 1.0, 1.0), **more):
    many, read = images(count)
    write_report(tmp_path / "report.html", "RUN", systems, many, read, seen, most, **more)
    return (tmp_path / "report.html").read_text()


def test_plain_text_is_escaped_everywhere(tmp_path):
    (one,), read = images(1)
    nasty = CaptionedImage(one.id, None, "test", (NASTY,))
    systems = [
        System(
            NASTY,
            NASTY,
            metrics={f"{NASTY}/{NASTY}": 1.0},
            curves={"train/loss": [(0, 1.0), (1, 0.5)], "lr/" + NASTY: [(0, 1.0)]},
            sentences={one.id: Sentence(NASTY, {NASTY: 0.5})},
            facts={"command": NASTY, "commit": NASTY},
        ),
    ] * 2
    for shown in (systems, systems[:1]):
        write_report(tmp_path / "r.html", NASTY, shown, [nasty], read, lambda w, h: (0, 0, 1, 1), None)
        tree = Tree((tmp_path / "r.html").read_text())
        assert tree.open == []
        assert not [tag for tag, one in tree.tags if tag == "b" and "onload" in one]
        for tag in ("title", "h1", "li", "pre"):
            assert NASTY in tree.texts[tag]
        assert len(tree.texts["script"]) == 3


def test_a_sweep_s_page_is_escaped(tmp_path):
    trial = {
        "number": 1,
        "folder": "trial_1/",
        "report": "",
        "best": True,
        "cells": [NASTY, 0.5],
        "error": NASTY,
    }
    values = {"summary": NASTY, "best": [(NASTY, NASTY)], "charts": [], "columns": [NASTY], "plotly": ""}
    write_page(tmp_path / "s.html", "sweep.html", title=NASTY, trials=[trial], **values)
    tree = Tree((tmp_path / "s.html").read_text())
    assert tree.open == []
    assert not [tag for tag, one in tree.tags if tag == "b"]
    for tag in ("title", "h1", "h2", "pre", "th", "td"):
        assert NASTY in tree.texts[tag]
    assert [one.get("class") for one in tree.of("tr")] == [None, "best"]
    assert tree.of("a") == [{"href": "trial_1/"}]


def test_a_page_needs_no_other_file_and_says_so_to_the_browser(tmp_path):
    text = page(tmp_path, [system(5)], 5)
    tree = Tree(text)
    addresses = [one[name] for _, one in tree.tags for name in ("src", "href") if name in one]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", text)
    (policy,) = tree.of("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline';")
    assert "'unsafe-inline'" not in policy["content"].split("script-src")[1]


def test_metrics_stand_with_their_intervals(tmp_path):
    one = system(3, intervals={"test/cider": (1.25, 1.75)})
    text = page(tmp_path, [one], 3)
    tiles = re.findall(r'<div class="tile"><dt>(.*?)</dt><dd class="value">(.*?)</dd>(.*?)</div>', text)
    assert [(name, value) for name, value, _ in tiles] == [("CIDEr-D", "1.500"), ("BLEU-4", "0.250")]
    assert "1.250 – 1.750" in tiles[0][2]  # noqa: RUF001
    assert tiles[1][2] == ""


def test_the_ends_of_an_interval_have_the_decimals_of_its_value(tmp_path):
    long = system(3, metrics={"test/mean_length": 10.06}, intervals={"test/mean_length": (9.91, 10.24)})
    assert "9.9 – 10.2" in page(tmp_path, [long], 3)  # noqa: RUF001


def test_a_count_has_no_decimals(tmp_path):
    metrics = {"test/vocabulary": 1286, "test/perplexity": 17.25}
    text = page(tmp_path, [system(3, name, metrics=metrics) for name in "ab"], 3)
    values = re.findall(r"<td[^>]*>([0-9,.]+)", text)
    assert sorted(set(values)) == ["1,286", "17.2"]


def test_the_best_of_several_systems_is_marked_and_they_are_told_apart(tmp_path):
    better = system(4, "beam", metrics={"test/cider": 2.0, "test/loss": 2.0, "test/mean_length": 9.0})
    worse = system(4, "greedy", metrics={"test/cider": 1.0, "test/loss": 3.0, "test/mean_length": 8.0})
    text = page(tmp_path, [worse, better], 4)
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', text)
    assert [name for name, _ in rows] == ["CIDEr-D", "Loss", "Mean length"]
    for name, cells in rows:
        best = [bool(found) for found in re.findall(r'<td( class="best")?>', cells)]
        assert best == [False, name != "Mean length"]


def test_a_dozen_systems_look_different(tmp_path):
    names = "abcdefghijkl"
    text = page(tmp_path, [system(1, name) for name in names], 1)
    dots = set(re.findall(r'<span class="dot (.*?)"></span><span class="name">(.)</span>', text))
    assert {name for _, name in dots} == set(names)
    assert len({look for look, _ in dots}) == len(dots) == len(names)


def test_every_pair_is_compared_in_every_metric(tmp_path):
    apart, alike = Comparison(-1.5, -2.0, -1.0, 0.002), Comparison(0.5, -0.25, 1.0, 0.25)
    compared = {
        ("a", "b"): {"bleu1": alike, "cider": apart},
        ("a", "c"): {"cider": alike},
        ("b", "c"): {"cider": apart._replace(difference=3.0, low=1.0, high=4.0)},
    }
    text = page(tmp_path, [system(2, name) for name in "abc"], 2, compared=compared)
    section = text.split('id="pairs"')[1].split("</section>")[0]
    cards = section.split("<h3>")[1:]
    assert [card.partition("<")[0] for card in cards] == ["CIDEr-D", "BLEU-1"]
    plain = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", cards[0]))
    assert "a less b −1.500 −2.000 to −1.000 p 0.002" in plain  # noqa: RUF001
    assert "a less c +0.500 −0.250 to +1.000 p 0.250" in plain  # noqa: RUF001
    assert "b less c +3.000 +1.000 to +4.000" in plain
    bars = re.findall(r'<span class="bar(.*?)".*?left:(.*?)%;width:(.*?)%.*?left:(.*?)%', cards[0])
    assert bars == [  # on one axis from -4 to 4, in the colour of the higher one
        (" c1", "25.0", "12.5", "31.2"),
        ("", "46.9", "15.6", "56.2"),
        (" c1", "62.5", "37.5", "87.5"),
    ]
    assert 'id="pairs"' not in page(tmp_path, [system(2)], 2)


def test_many_pairs_are_folded_away_but_there(tmp_path):
    compared = {
        (one, other): {"cider": Comparison(0.5, 0.25, 1.0, 0.002)} for one, other in combinations("abcdef", 2)
    }
    text = page(tmp_path, [system(1, name) for name in "abcdef"], 1, compared=compared)
    shown, folded = text.split('id="pairs"')[1].split("</section>")[0].split("<details>")
    assert (shown.count("<li"), folded.count("<li")) == (10, 5)
    assert "5 more" in folded


def test_best_and_worst_follow_the_scores(tmp_path):
    text = page(tmp_path, [system(40)], 40)
    best, worst, drawn = (
        re.findall('data-id="(.*?)"', text.split(f"<h3>{heading}</h3>")[1].split("</section>")[0])
        for heading in ("Best", "Worst", "Random")
    )
    assert best[:8] == [f"i{i}" for i in range(39, 31, -1)]
    assert worst[:8] == [f"i{i}" for i in range(8)]
    assert len(set(drawn)) == 8
    assert page(tmp_path, [system(40)], 40) == text


def test_systems_are_compared_where_they_differ_most(tmp_path):
    one, other = system(30, "a"), dict(system(30, "b").sentences)
    other["i7"] = Sentence("something else", {"cider": 90.0})
    other["i3"] = Sentence("something else", {"cider": 50.0})
    text = page(tmp_path, [one, System("b", "test", sentences=other)], 30)
    section = text.split('id="differences"')[1].split("</section>")[0]
    assert re.findall('data-id="(.*?)"', section) == ["i7", "i3"]
    assert section.index("caption 7") < section.index("something else")


def test_the_gallery_holds_every_captioned_image_in_order(tmp_path):
    tree = Tree(page(tmp_path, [system(30)], 31))
    assert tree.cards() == [f"i{i}" for i in range(30)]
    assert all(one["width"] == "40" and one["height"] == "30" for one in tree.of("img"))


def test_integer_ids_find_their_captions(tmp_path):
    image = CaptionedImage(12, None, "test", ("a dog",))
    systems = [System("a", "test", sentences={"12": Sentence("a cat")})]
    seen = lambda width, height: (0, 0, 1, 1)  # noqa: E731
    write_report(
        tmp_path / "r.html", "RUN", systems, [image], lambda _, least: Image.new("RGB", (9, 9)), seen, 9
    )
    assert Tree((tmp_path / "r.html").read_text()).cards() == ["12"]


def test_a_limited_gallery_says_so_and_keeps_what_is_picked_out(tmp_path):
    text = page(tmp_path, [system(200)], 200, most=50)
    ids = Tree(text).cards()
    assert len(ids) == 50
    assert {"i0", "i7", "i192", "i199"} <= set(ids)
    assert ids == sorted(ids, key=lambda id: int(id[1:]))
    assert "50 of 200 images" in text


def test_pictures_keep_their_proportions_and_the_seen_part_is_marked(tmp_path):
    many, read = images(1, size=(1000, 250))
    seen = lambda width, height: (0.375, 0.0, 0.625, height / 250)  # noqa: E731
    write_report(tmp_path / "r.html", "RUN", [system(1)], many, read, seen, None)
    tree = Tree((tmp_path / "r.html").read_text())
    for picture in tree.of("img"):
        assert int(picture["width"]) / int(picture["height"]) == pytest.approx(4, rel=0.05)
        assert int(picture["width"]) < 1000
    assert {one["data-seen"].strip() for _, one in tree.tags if "data-seen" in one} == {"0.375 0.0 0.625 1.0"}


def test_heat_maps_go_with_their_captions(tmp_path):
    maps = HeatMaps(2, "A_AAAA_A")
    one = System("a", "test", sentences={"i0": Sentence("two words", {}, maps), "i1": Sentence("none")})
    tree = Tree(page(tmp_path, [one], 2))
    said = [attributes for _, attributes in tree.tags if attributes.get("class") == "said"]
    found = {attributes.get("data-maps") for attributes in said}
    assert found == {"A_AAAA_A", None}
    assert {attributes.get("data-side") for attributes in said} == {"2", None}


def test_heat_maps_of_several_systems_are_with_the_examples_only(tmp_path):
    maps = HeatMaps(2, "A_AAAA_A")
    systems = [
        System(name, "test", sentences={"i0": Sentence("two words", {"cider": 1.0}, maps)}) for name in "ab"
    ]
    examples, gallery = page(tmp_path, systems, 1).split('<section id="gallery">')
    assert examples.count(f'data-maps="{maps.digits}"') == 2
    assert maps.digits not in gallery


def test_the_gallery_of_many_systems_is_smaller_and_a_mean_is_no_system(tmp_path):
    many = [system(200, name) for name in "abcdef"]
    text = page(tmp_path, [*many, System("mean", "test", {"test/cider": 7.5})], 200, most=100)
    assert len(Tree(text).cards()) == 33
    assert "33 of 200 images" in text
    assert "7.500" in text
    other = dict(many[1].sentences) | {"i7": Sentence("something else", {"cider": 900.0})}
    apart = [many[0], System("b", "test", sentences=other), System("mean", "test", {"test/cider": 7.5})]
    assert 'id="differences"' in page(tmp_path, apart, 200)


def test_what_a_reader_must_know_stands_with_the_metrics(tmp_path):
    many, read = images(1)
    arguments = (many, read, lambda width, height: (0, 0, 1, 1), None)
    write_report(tmp_path / "r.html", "RUN", [system(1)], *arguments, note="in a hurry & badly")
    assert "Captions of the whole split, in a hurry &amp; badly." in (tmp_path / "r.html").read_text()


def test_a_command_stands_once_whatever_it_made(tmp_path):
    shown = [
        system(1, name, facts={"command": f"python {of}.py"}) for name, of in zip("abc", "xxy", strict=True)
    ]
    text = page(tmp_path, shown, 1)
    text = re.sub("<pre[^>]*>", "<pre>", text)
    assert text.count("<pre>python x.py</pre>") == text.count("<pre>python y.py</pre>") == 1
    assert "<div>a, b<pre>" in text
    assert re.search("<div>Made by<pre[^>]*>python x", page(tmp_path, shown[:2], 1))


def test_every_caption_finds_its_own_direction(tmp_path):
    (one,), read = images(1)
    hebrew = CaptionedImage(one.id, None, "test", ("כלב רץ על הדשא",))
    systems = [System("a", "test", sentences={one.id: Sentence("שני כלבים")})]
    write_report(tmp_path / "r.html", "RUN", systems, [hebrew], read, lambda w, h: (0, 0, 1, 1), None)
    tree = Tree((tmp_path / "r.html").read_text())
    assert all(one["dir"] == "auto" for one in [*tree.of("p", **{"class": "caption"}), *tree.of("li")])
    assert "כלב רץ על הדשא" in tree.texts["li"]


def test_a_system_without_anything_still_gives_a_page(tmp_path):
    text = page(tmp_path, [System("a", "test")], 3)
    assert Tree(text).open == []
    assert "no captions yet" in text


def test_names_are_passed_to_the_script_as_data(tmp_path):
    tree = Tree(page(tmp_path, [system(2, NASTY)], 2))
    data = [one for one in tree.texts["script"] if one.startswith("{")]
    assert json.loads(data[0]) == {"systems": [NASTY], "metrics": ["CIDEr-D", "BLEU-4"]}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.123456789, "0.12346"), (1e-7, "1e-07"), (3, "3"), (True, "True"), ("x", "x"), (0.0, "0")],
)
def test_values_in_cells(value, text):
    assert number(value) == text


def test_metrics_have_the_names_that_papers_give_them():
    assert [title(name) for name in ("cider", "bleu4", "rouge_l", "my_own")] == [
        "CIDEr-D",
        "BLEU-4",
        "ROUGE-L",
        "my own",
    ]
