"""Vocabulary, encoding and decoding."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocaption.data import tokenizer as rules
from autocaption.data.tokenizer import BOS, EOS, PAD, SPECIAL, UNK, WordTokenizer
from autocaption.errors import UserError

WORDS = ["a", "man", "dog", "red", "t-shirt", "Jumps", "2", "x2", "’s"]  # noqa: RUF001
CAPTIONS = st.lists(st.sampled_from(WORDS), max_size=12).map("  ".join)
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


def fitted(*captions, rule=rules.words, min_count=1, max_length=20):
    return WordTokenizer(rule, min_count, max_length).fit(captions)


@pytest.mark.parametrize(
    ("caption", "words", "original"),
    [
        ("A Dog , a man .", "a dog a man", "dog man"),
        ("T-shirt's 2 dogs: 3D!", "tshirts 2 dogs 3d", "tshirts dogs"),
        ("“It’s” \t a\n dog…", "its a dog", "its dog"),  # noqa: RUF001
        (" . , ", "", ""),
        ("Cafe\u0301, CAFÉ", "café café", "café café"),  # accents typed in two ways
        ("¿Qué «perro»?", "qué perro", "qué perro"),
        ("ΔΎΟ ΣΚΎΛΟΣ·", "δύο σκύλος", "δύο σκύλος"),
        ("כלב־ים; \u200fגדול", "כלבים גדול", "כלבים גדול"),  # noqa: RUF001
        ("एक कुत्ता।", "एक कुत्ता", "एक"),
        ("می\u200cدود", "می\u200cدود", ""),  # a zero-width non-joiner belongs to the word
        ("a\u00b4\u0301", "á", ""),  # what is deleted stood between letter and accent
    ],
)
def test_rules(caption, words, original):
    assert rules.words(caption) == words.split()
    assert rules.original(caption) == original.split()


@given(TEXT)
def test_words_are_their_own_words(caption):
    once = rules.words(caption)
    assert rules.words(" ".join(once)) == once
    assert set(rules.original(caption)) <= set(once)


def test_vocabulary_is_by_count_then_alphabet():
    tokenizer = fitted("dog cat dog .", "bird DOG cat", "ant")
    assert tokenizer.vocabulary == [*SPECIAL, "dog", "cat", "ant", "bird"]
    special = [tokenizer.vocabulary[i] for i in (PAD, BOS, EOS, UNK)]
    assert special == ["<pad>", "<bos>", "<eos>", "<unk>"]


@given(st.lists(CAPTIONS, min_size=1, max_size=6), st.integers(1, 3), st.randoms())
def test_vocabulary_is_that_of_the_captions_in_any_order(captions, min_count, random):
    counts = Counter(word for caption in captions for word in rules.words(caption))
    often = {word for word, count in counts.items() if count >= min_count}
    if not often:
        with pytest.raises(UserError, match="min_count"):
            fitted(*captions, min_count=min_count)
        return
    vocabulary = fitted(*captions, min_count=min_count).vocabulary
    assert sorted(vocabulary[4:]) == sorted(often)
    random.shuffle(captions)
    assert fitted(*captions, min_count=min_count).vocabulary == vocabulary


def test_rare_words_and_words_of_other_captions_are_unknown():
    tokenizer = fitted("dog dog cat", min_count=2)
    dog = tokenizer.vocabulary.index("dog")
    assert tokenizer.encode("Dog cat bird dog") == [BOS, dog, UNK, UNK, dog, EOS]
    assert tokenizer.vocabulary == [*SPECIAL, "dog"]
    assert tokenizer.decode([dog, UNK]) == "dog <unk>"


def test_fit_leaves_its_tokenizer_alone():
    empty = WordTokenizer(rules.words, 1, 20)
    empty.fit(["dog"])
    assert empty.vocabulary == list(SPECIAL)


def test_a_stored_vocabulary_gives_the_same_ids():
    tokenizer = fitted("a dog and a cat", "the dog")
    again = WordTokenizer(rules.words, 1, 20, tokenizer.vocabulary)
    assert again.encode("The cat barks") == tokenizer.encode("The cat barks")


def test_max_length_cuts_ids_only():
    caption = "one two three four five"
    tokenizer = fitted(caption, max_length=3)
    ids = tokenizer.encode(caption)
    assert (ids[0], len(ids)) == (BOS, 4)
    assert EOS not in ids  # the caption doesn't end there
    assert fitted(caption, max_length=5).encode(caption)[-1] == EOS
    assert tokenizer.decode(ids) == "one two three"
    assert tokenizer.normalize(caption) == caption
    assert "five" in tokenizer.vocabulary


def test_decode_stops_at_eos_and_leaves_out_padding():
    tokenizer = fitted("cat dog")
    cat, dog = map(tokenizer.vocabulary.index, ("cat", "dog"))
    assert tokenizer.decode([BOS, cat, EOS, dog, EOS]) == "cat"
    assert tokenizer.decode([BOS, PAD, dog, cat]) == "dog cat"
    assert tokenizer.decode([EOS, cat]) == tokenizer.decode([]) == ""


@given(TEXT, st.sampled_from([rules.words, rules.original]))
def test_decode_undoes_encode(caption, rule):
    tokenizer = fitted("something", caption, rule=rule, max_length=99)
    assert tokenizer.decode(tokenizer.encode(caption)) == tokenizer.normalize(caption)
    assert tokenizer.normalize(caption).split() == rule(caption)


@pytest.mark.parametrize("captions", [[], ["", " . "], ["each word once"]])
def test_no_word_often_enough(captions):
    with pytest.raises(UserError, match=r"2 times; lower tokenizer\.min_count"):
        fitted(*captions, min_count=2)
