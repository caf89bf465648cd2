"""Means over seeds, against Student's published table, and the references that a human row leaves."""

import pytest

from autocaption.data.sources import CaptionedImage
from autocaption.errors import UserError
from autocaption.evaluation.human import WithoutFirst
from autocaption.evaluation.seeds import mean_of, student_t

TABLE = [(1, 12.7062), (2, 4.30265), (3, 3.18245), (9, 2.26216), (30, 2.04227), (500, 1.96472)]


@pytest.mark.parametrize(("degrees", "quantile"), TABLE)
def test_student_t(degrees, quantile):
    assert student_t(degrees, 0.95) == pytest.approx(quantile, rel=1e-5)


def test_a_mean_of_three_seeds():
    found = mean_of([1.0, 2.0, 6.0])
    assert (found.mean, found.std) == pytest.approx((3.0, 7**0.5))
    assert (found.high - 3, 3 - found.low) == pytest.approx([4.30265 * 7**0.5 / 3**0.5] * 2, rel=1e-5)


class Source:
    def __init__(self, *captions):
        self.captions = captions

    def split(self, name):
        return [CaptionedImage(i, None, name, texts) for i, texts in enumerate(self.captions)]


def test_the_first_caption_is_taken_from_one_split_only():
    source = WithoutFirst(Source(("a", "b", "c"), ("d", "e")), "test")
    assert source.first == {0: "a", 1: "d"}
    assert [image.captions for image in source.split("test")] == [("b", "c"), ("e",)]
    assert [image.captions for image in source.split("train")] == [("a", "b", "c"), ("d", "e")]


def test_an_image_with_one_caption_has_no_human_row():
    with pytest.raises(UserError, match="1 of the 2 images of split 'val' have one caption only, first 1"):
        WithoutFirst(Source(("a", "b"), ("c",)), "val")
