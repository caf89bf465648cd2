"""Images in flat arrays are the images that they were made of."""

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocaption.data.image_table import IdTable, ImageTable, TextTable, captions_of, pictures_of
from autocaption.data.sources import CaptionedImage, FileName
from autocaption.data.sources.webdataset import TarMember

TEXT = st.text(st.characters())  # lone surrogates, as JSON may hold, among them
ID = st.one_of(st.integers(), TEXT)
PATH = st.one_of(
    st.none(),
    st.binary(min_size=1).map(lambda raw: Path(os.fsdecode(raw.replace(b"\0", b"")))),
    st.builds(TarMember, st.just(Path("a.tar")), TEXT, st.integers(0), st.integers(0)),
)
IMAGES = st.one_of(
    *(
        st.lists(
            st.builds(CaptionedImage, ids, paths, st.just("val"), st.lists(TEXT, max_size=3).map(tuple)),
            max_size=5,
        )
        for ids in (ID, st.integers(-(2**63), 2**63 - 1), TEXT)
        for paths in (PATH, st.builds(Path, st.just("a b.jpg")))
    )
)


@given(IMAGES)
def test_a_table_is_the_list_that_it_was_made_of(images):
    for table in (ImageTable("val", images), pickle.loads(pickle.dumps(ImageTable("val", images)))):
        assert len(table) == len(images)
        assert list(table) == images
        assert [table[i] for i in range(len(images))] == images
        assert [table[i] for i in range(-len(images), 0)] == images
        assert [type(image.id) for image in table] == [type(image.id) for image in images]
        assert list(table[1:3]) == images[1:3]
        for some in (table, images):
            pictures = [(id, str(path)) for id, path in pictures_of(some)]
            assert pictures == [(image.id, str(image.path)) for image in images]
            assert list(captions_of(some)) == [(image.id, image.captions) for image in images]
        assert list(table[::-2]) == images[::-2]
    ids = [image.id for image in images]
    assert list(IdTable(ids)) == [IdTable(ids)[i] for i in range(len(ids))] == ids
    assert list(IdTable(ids)[1:]) == ids[1:]


@pytest.mark.parametrize("name", ["a.JPG", "b.tar.gz", "none", "deep/.hidden", "deep.er/x"])
def test_a_file_name_is_a_picture_file_as_a_path_is(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(name.encode())
    file = FileName(str(path))
    assert (str(file), file.suffix, file.read_bytes()) == (str(path), path.suffix, path.read_bytes())
    assert file.stat() == path.stat()
    (image,) = ImageTable("val", [CaptionedImage(1, file, "val", ("A.",))])
    assert image == CaptionedImage(1, path, "val", ("A.",))


@pytest.mark.parametrize("table", [ImageTable("val", []), TextTable(["a"]), IdTable([3])])
def test_beyond_its_end_there_is_nothing(table):
    with pytest.raises(IndexError):
        table[len(table)]
