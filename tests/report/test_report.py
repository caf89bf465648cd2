"""Sheets of pictures, terminal tables and HTML parts."""

from html.parser import HTMLParser

import numpy as np
from PIL import Image
from rich.console import Console
from torch import nn

from autocaption.report import html
from autocaption.report.sheet import MARGIN, TILE, sheet
from autocaption.report.tables import metrics_table, parameter_count, parameter_table


def drawn(picture):
    """How many pixels of a sheet are not white."""
    return int((np.array(picture) != 255).any(-1).sum())


def test_a_sheet_shows_every_picture_in_its_tile():
    colours = ["red", "lime", "blue", "black", "cyan"]
    pictures = [Image.new("RGB", (30, 50), colour) for colour in colours]
    page = sheet(pictures, [""] * 5, [[]] * 5, columns=3)
    width, height = TILE + MARGIN, (page.height - MARGIN) // 2
    assert page.width == 3 * width + MARGIN
    for i, colour in enumerate(colours):
        middle = (MARGIN + i % 3 * width + TILE // 2, MARGIN + i // 3 * height + TILE // 2)
        assert page.getpixel(middle) == Image.new("RGB", (1, 1), colour).getpixel((0, 0))


def test_a_sheet_shows_the_caption_and_two_references():
    picture = [Image.new("RGB", (9, 9), "white")]
    texts = ["one reference", "another", "a third"]
    inks = [drawn(sheet(picture, ["a caption"], [texts[:count]])) for count in range(4)]
    assert drawn(sheet(picture, [""], [[]])) < inks[0] < inks[1] < inks[2] == inks[3]


class Text(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_text_in_a_page_is_never_markup():
    evil = "<img src=x> & 'quotes'"
    rows = [html.row([html.cell(evil, "error"), html.cell(0.123456), html.cell(None)], "best")]
    seen = Text(html.page(evil, [html.table([evil], rows)]))
    assert "img" not in [tag for tag, _ in seen.tags]
    assert seen.text.count(evil) == 4  # title, heading, head and cell
    assert "0.12346" in seen.text
    assert ("tr", {"class": "best"}) in seen.tags
    assert ("td", {"class": "error"}) in seen.tags


def shown(table):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_the_metrics_table_has_a_row_a_scored_split():
    metrics = {"val/loss": 1.0, "val/bleu4": 0.25, "test/loss": 2.0, "test/bleu4": 0.5, "epochs": 3}
    lines = shown(metrics_table(metrics, ("train", "val", "test"))).splitlines()
    assert [line.split()[1] for line in lines if "0." in line] == ["val", "test"]
    assert "0.250" in lines[3]
    assert "loss" not in lines[1]


def test_parameters_are_counted_once_by_part():
    shared = nn.Linear(2, 3)
    model = nn.ModuleDict({"a": nn.Sequential(shared, shared), "b": nn.Linear(1, 1).requires_grad_(False)})
    assert parameter_count(model, 1) == {"a": (9, 9), "b": (2, 0)}
    assert "b.weight" in shown(parameter_table(model))
