"""Gathering token ids equals padding them caption by caption.

Legend: B images, N captions an image, T time.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autocaption.data.token_table import TokenTable
from autocaption.data.tokenizer import PAD, WordTokenizer, words

TOKENIZER = WordTokenizer(words, 1, 4).fit(["a dog and a cat"])
CAPTION = st.lists(st.sampled_from(["a", "dog", "and", "cat", "bird"]), max_size=6).map(" ".join)
SPLIT = st.lists(st.lists(CAPTION, max_size=4), min_size=1, max_size=6)


def slow_gather(captions, images):
    encoded = [[TOKENIZER.encode(text) for text in captions[i]] for i in images]
    most = max(1, *(len(rows) for rows in encoded))
    longest = max((len(row) for rows in encoded for row in rows), default=0)
    padded = []
    for rows in encoded:
        rows = rows + [[]] * (most - len(rows))
        padded.append([row + [0] * (longest - len(row)) for row in rows])
    return torch.tensor(padded, dtype=torch.int64).reshape(len(images), most, longest)


@given(SPLIT.filter(any), st.data())
def test_gather_is_what_loops_would_gather(captions, data):
    images = data.draw(st.lists(st.integers(0, len(captions) - 1), min_size=1, max_size=5))
    tokens_BNT, lengths_BN = TokenTable(captions, TOKENIZER).gather(images)
    assert tokens_BNT.dtype == torch.int64
    assert lengths_BN.tolist() == (tokens_BNT != PAD).sum(2).tolist()
    assert torch.equal(tokens_BNT, slow_gather(captions, images))


def test_unequal_numbers_of_captions():
    table = TokenTable([["a dog"], ["a", "cat bird", "dog and cat"]], TOKENIZER)
    a, dog, and_, cat = (TOKENIZER.vocabulary.index(word) for word in ("a", "dog", "and", "cat"))
    none = [0, 0, 0, 0, 0]
    expected_BNT = [
        [[1, a, 2, 0, 0], [1, cat, 3, 2, 0], [1, dog, and_, cat, 2]],
        [[1, a, dog, 2, 0], none, none],
    ]
    assert table.gather([1, 0])[0].tolist() == expected_BNT
    assert table.gather([0])[0].tolist() == [[[1, a, dog, 2]]]  # no wider than this batch needs


def test_a_split_without_captions():
    assert TokenTable([[], []], TOKENIZER).gather([1, 0])[0].shape == (2, 1, 0)


def test_missing_image_is_named():
    with pytest.raises(IndexError):
        TokenTable([["a"]], TOKENIZER).gather([1])
