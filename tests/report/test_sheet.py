"""The grid of pictures with generated captions and references."""

import pytest
from PIL import Image, ImageChops

from autocaption.report.sheet import LINE, MARGIN, TILE, sheet

WIDTH, HEIGHT = TILE + MARGIN, TILE + 9 * LINE + MARGIN
COLOURS = ["red", "lime", "blue", "yellow", "cyan", "magenta"]
GREY = (0x88, 0x88, 0x88)


def squares(count):
    return [Image.new("RGB", (30, 20), colour) for colour in COLOURS[:count]]


def corner(i, columns=4):
    return MARGIN + i % columns * WIDTH, MARGIN + i // columns * HEIGHT


def text_area(i):
    """The box below a picture, down to the next row."""
    x, y = corner(i)
    return (x, y + TILE, x + TILE, y + TILE + 9 * LINE)


@pytest.mark.parametrize(
    ("count", "columns", "size"), [(1, 4, (4, 1)), (4, 4, (4, 1)), (5, 4, (4, 2)), (5, 2, (2, 3))]
)
def test_size_follows_the_number_of_pictures(count, columns, size):
    page = sheet(squares(count), ["a"] * count, [[]] * count, columns)
    assert page.size == (size[0] * WIDTH + MARGIN, size[1] * HEIGHT + MARGIN)


@pytest.mark.parametrize("size", [(30, 20), (20, 30), (25, 25), (600, 400)])
def test_each_picture_has_its_position_and_its_proportions(size):
    pictures = [Image.new("RGB", size, colour) for colour in COLOURS]
    page = sheet(pictures, [""] * 6, [[]] * 6)
    width, height = (round(TILE * side / max(size)) for side in size)
    left, top = (TILE - width) // 2, (TILE - height) // 2
    for i, colour in enumerate(COLOURS):
        x, y = corner(i)
        tile = page.crop((x, y, x + TILE, y + TILE))
        expected = Image.new("RGB", (TILE, TILE), "white")
        expected.paste(colour, (left, top, left + width, top + height))
        assert ImageChops.difference(tile, expected).getbbox() is None
    assert page.getpixel((MARGIN // 2, MARGIN // 2)) == (255, 255, 255)


def test_text_is_drawn_below_its_picture_only():
    blank = sheet(squares(6), [""] * 6, [[]] * 6)
    for i in (0, 5):
        captions, references = [""] * 6, [[]] * 6
        captions[i], references[i] = "a dog runs over the grass " * 5, ["two dogs " * 20, "grass " * 20]
        page = sheet(squares(6), captions, references)
        box = ImageChops.difference(page, blank).getbbox()
        left, top, right, bottom = text_area(i)
        assert left - 2 <= box[0] < left + 5
        assert top < box[1] < top + LINE
        assert right - 60 < box[2] <= right + MARGIN
        assert bottom - LINE < box[3] < bottom + MARGIN  # nine lines, and no overlap with the next row


def colours(page, line):
    """What is drawn in a line of text below the first picture."""
    x, y = corner(0)
    top = y + TILE + 4 + line * LINE
    found = page.crop((x, top, x + TILE, top + LINE)).getcolors(99999)
    return {colour for _, colour in found} - {(255, 255, 255)}


def test_generated_caption_is_black_and_two_references_are_grey():
    page = sheet(squares(1), ["IIII"], [["HHHH", "EEEE", "TTTT"]])
    assert min(colours(page, 0)) < (40, 40, 40)
    for line in (1, 2):
        assert GREY in colours(page, line)
        assert min(colours(page, line)) >= GREY
    assert not colours(page, 3)


def test_long_text_wraps_and_is_cut_after_three_lines():
    page = sheet(squares(1), ["word " * 100], [["other " * 100]])
    assert [bool(colours(page, line)) for line in range(8)] == [True] * 6 + [False] * 2
    assert min(colours(page, 2)) < (40, 40, 40)
    assert min(colours(page, 3)) >= GREY


def drawn(caption):
    """The picture of a caption."""
    return sheet(squares(1), [caption], [[]]).crop(text_area(0))


@pytest.mark.parametrize("letter", ["a", "\xe4", "\xdf", "\u0436", "\u05e9", "\u72d7", "\U00013000"])
def test_a_character_is_drawn_as_itself_or_named_in_a_warning(letter, caplog):
    page = drawn(letter)
    box = ImageChops.difference(page, drawn("\uffff")).getbbox() is None
    lacking = [record.getMessage() for record in caplog.records]
    assert not box or f"boxes for {letter}" in lacking[0]
    assert box or not lacking


@pytest.mark.parametrize("text", ["W" * 200, "MW \xc4 " * 40, "\u72d7" * 100])
def test_wide_letters_stay_below_their_picture(text):
    both, blank = (sheet(squares(2), [caption, ""], [[], []]) for caption in (text, ""))
    assert ImageChops.difference(both, blank).getbbox()[2] <= text_area(0)[2] + 1


def test_a_text_that_is_cut_shows_it():
    word = "i" * 30
    cut, whole = drawn(f"{word} " * 5), drawn(f"{word} {word} ...")
    assert ImageChops.difference(cut, whole).getbbox() is None
