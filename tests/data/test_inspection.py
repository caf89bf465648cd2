"""What inspect and check say of a small folder whose answer is known."""

import re

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from autocaption.data.__main__ import main
from autocaption.data.inspection import alike, inspected, perceptual_hash
from autocaption.data.sources.own_pictures import folder
from autocaption.data.tokenizer import words


def noise(seed, size=(60, 40)):
    coarse = np.random.RandomState(seed).randint(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path):
    pictures = {
        "a.png": noise(0),
        "b.png": noise(1),
        "same.png": noise(0),
        "near.jpg": ImageEnhance.Brightness(noise(1).resize((90, 60))).enhance(0.9),
        "c.png": noise(2, (30, 80)),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    (tmp_path / "captions.csv").write_text(
        "image,caption,split\na.png,A dog . ,train\na.png,a dog,train\nb.png,The dog and the cat run,train\n"
        "same.png,A bird,val\nnear.jpg,<b>שלום</b>,test\nc.png,A dog,test\n"
    )
    return tmp_path


def facts(root):
    return inspected(folder(str(root)), lambda caption: " ".join(words(caption)))


def test_captions_and_vocabulary(root):
    found = facts(root)
    assert found["splits"]["train"] == {
        **{"images": 2, "captions": 3, "captions an image": (1, 2)},
        "words a caption": pytest.approx(10 / 3),
    }
    captions = found["captions"]
    assert captions["mean"] == pytest.approx((2 + 2 + 6 + 2 + 1 + 2) / 6)
    assert captions["mode"] == 2
    assert captions["histogram"] == [(0, 0), (1, 1), (2, 4), (3, 0), (4, 0), (5, 0), (6, 1)]
    assert set(captions["words"][:2]) == {("dog", 4), ("a", 4)}
    assert captions["most repeated"] == [("a dog", 3)]
    rows = {row["min_count"]: row for row in found["vocabulary"]}
    assert [rows[n]["words"] for n in (1, 2, 3, 4)] == [6, 3, 1, 0]  # a dog the and cat run; a dog the; dog
    assert rows[1]["unknown"] == {"train": 0, "val": 0.5, "test": pytest.approx(1 / 3)}
    assert rows[3]["unknown"]["train"] == pytest.approx(0.7)
    assert found["longest"][0][1:] == ("The dog and the cat run", 6)
    assert found["shortest"][0][2] == 1


def test_pictures_and_duplicates(root):
    found = facts(root)
    assert found["sizes"]["width"] == (30, 60, 90)
    assert [(one.id, other.id) for one, other, _ in map(tuple_of, found["identical"])] == [
        ("a.png", "same.png")
    ]
    assert [(one.id, other.id) for one, other, _ in map(tuple_of, found["similar"])] == [
        ("b.png", "near.jpg")
    ]


def tuple_of(pair):
    return pair.one, pair.other, pair.bits


def test_hashes_are_near_for_what_looks_alike_only():
    one = perceptual_hash(noise(3))
    assert (one ^ perceptual_hash(noise(3, (200, 130)))).bit_count() <= 3
    assert (one ^ perceptual_hash(noise(4))).bit_count() > 10
    assert alike([]) == []


def test_inspect_writes_tables_and_a_page(root, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    page = root / "page.html"
    main(["inspect", "--page", str(page), "data=folder", f"data.root={root}"])
    said = capsys.readouterr().out
    for word in ("train", "min_count", "nearly the same", "in two splits 1", str(page)):
        assert word in said
    text = page.read_text()
    assert "&lt;b&gt;שלום" in text  # escaped
    assert "<b>" not in text
    assert len(re.findall("<img", text)) > 10
    assert "://" not in text  # self-contained
    assert "default-src 'none'" in text  # the frame of the report


def test_a_page_in_no_folder_is_refused_before_pictures_are_read():
    with pytest.raises(SystemExit) as done:
        main(["inspect", "--page", "/nowhere/page.html", "data=folder", "data.root=/also/nowhere"])
    assert done.value.code == "error: --page=/nowhere/page.html: there is no folder /nowhere"


def test_check_lists_what_is_broken_and_exits_with_1(root, capsys):
    main_of = ["check", "data=folder", f"data.root={root}"]
    with pytest.raises(SystemExit) as done:
        main(main_of)
    assert done.value.code == 0
    (root / "c.png").write_bytes((root / "c.png").read_bytes()[:300])
    noise(0).save(root / "a.png", "JPEG")
    with pytest.raises(SystemExit) as done:
        main(main_of)
    assert done.value.code == 1
    said = capsys.readouterr().out
    assert re.search(r"broken image: .*c\.png", said)
    assert re.search(r"a\.png holds JPEG", said)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data=flickr8k", "data.root=/nowhere"], "folder not found: /nowhere"),
        (["data=nothing"], "Could not find 'data/nothing'"),
        (["data=flickr8k"], "no value for data.root; give it with data.root=DIR, or set AUTOCAPTION_DATA"),
        (["data=folder", "data.root=~/nowhere"], "folder not found: /somebody/nowhere"),
        (["data=folder", "data.fle=a.csv"], "did you mean data.file;"),
        (
            ["data=folder", "data.root=.", "+data.source.foo=1"],
            "data.source.foo: folder has no such argument",
        ),
        (["+data.max_pixles=3"], "nothing reads data.max_pixles; did you mean data.max_pixels?"),
        (["data.root=/my (old) ü"], """quote text for it, too: 'data.root="/my (old) ü"';"""),
        (["data.root"], "Error parsing override 'data.root' missing EQUAL"),
    ],
)
def test_a_mistake_is_one_line(overrides, said, monkeypatch):
    monkeypatch.delenv("AUTOCAPTION_DATA", raising=False)
    monkeypatch.setenv("HOME", "/somebody")
    with pytest.raises(SystemExit) as done:
        main(["check", *overrides])
    assert str(done.value.code).startswith("error: ")
    assert said in done.value.code
    assert len(str(done.value.code).splitlines()) == 1


def test_a_quoted_path_may_have_any_characters(root, capsys):
    root.rename(named := root.with_name("my (old) ü, [x]"))
    with pytest.raises(SystemExit) as done:
        main(["check", "data=folder", f'data.root="{named}"'])
    assert done.value.code == 0
