"""HTML pages: what is plain text is escaped, and what is HTML is not."""

from html.parser import HTMLParser

import pytest

from autocaption.report.html import cell, page, row, table

NASTY = """<b onload="x">&amp; 'q' {title} {}</b>"""


class Tree(HTMLParser):
    """(tag, attributes) of every start tag, and the text within each tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else None, []).append(data)


def test_plain_text_is_escaped_everywhere():
    body = [table([NASTY], [row([cell(NASTY), cell(NASTY, "error")])])]
    tree = Tree(page(NASTY, body))
    assert tree.open == []
    assert "b" not in [tag for tag, _ in tree.tags]
    for tag in ("title", "h1", "th"):
        assert tree.texts[tag] == [NASTY]
    assert tree.texts["td"] == [NASTY, NASTY]


def test_body_and_script_stand_as_given():
    script = "if (1 < 2 && '{}') { f() }"
    text = page("title", ["<p>one</p>", "<em>{two}</em>"], script)
    tree = Tree(text)
    assert tree.texts["p"] == ["one"]
    assert tree.texts["em"] == ["{two}"]
    assert tree.texts["script"] == [script]
    assert text.startswith("<!DOCTYPE html>")
    assert ("meta", {"charset": "utf-8"}) in tree.tags


def test_page_needs_no_other_file():
    attributes = [one for _, one in Tree(page("title", [table(["a"], [])])).tags]
    assert not [one for one in attributes if {"src", "href"} & one.keys()]


def test_rows_and_cells_have_their_class():
    tags = Tree(table(["a"], [row([cell(1)]), row([cell(2, "error")], "best")])).tags
    assert [one for tag, one in tags if tag == "tr"] == [{}, {}, {"class": "best"}]
    assert [one for tag, one in tags if tag == "td"] == [{}, {"class": "error"}]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.123456789, "0.12346"), (1e-7, "1e-07"), (3, "3"), (True, "True"), ("x", "x"), (0.0, "0")],
)
def test_values_in_cells(value, text):
    assert cell(value) == f"<td>{text}</td>"
