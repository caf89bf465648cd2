"""Tokenizers of subwords: what they learn, round trips, and how they travel in a checkpoint."""

import json
import sys

import pytest
import torch
from helpers.commands import TINY
from helpers.configs import composed
from hypothesis import given
from hypothesis import strategies as st

from autocaption import build
from autocaption.data.tokenizer import BOS, EOS, PAD, SPECIAL, UNK, words
from autocaption.errors import UserError

tokenizers = pytest.importorskip("tokenizers")
from autocaption.data.subwords import SubwordTokenizer  # noqa: E402

CAPTIONS = ["A dog runs .", "Two dogs run in the running water", "the dog , again"] * 5
LEARNT = SubwordTokenizer(words, max_length=200, vocab_size=280).fit(CAPTIONS)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_byte_pairs_undo_any_text(caption):
    ids = LEARNT.encode(caption)
    assert (ids[0], ids[-1]) == (BOS, EOS)
    assert UNK not in ids
    assert LEARNT.decode(ids) == LEARNT.normalize(caption) == " ".join(words(caption))


def test_half_a_character_is_no_word():
    model = SubwordTokenizer(words, max_length=20, vocab_size=300).fit(["a \ud800 dog"])
    assert model.decode(model.encode("a \ud800 dog")) == "a dog"


def test_frequent_words_are_one_token_and_sizes_agree():
    assert LEARNT.vocabulary[:4] == list(SPECIAL)
    assert len(LEARNT.vocabulary) == 4 + 280
    assert len(LEARNT.encode("dog")) == 3
    assert len(LEARNT.encode("giraffe")) > 4
    assert max(LEARNT.encode("the dog runs")) < len(LEARNT.vocabulary)
    assert LEARNT.decode([BOS, *LEARNT.encode("dog")[1:-1], PAD, EOS, 99]) == "dog"


def test_a_cut_caption_does_not_end():
    short = SubwordTokenizer(words, 3, vocabulary=LEARNT.saved)
    assert short.encode("dog dog dog") == LEARNT.encode("dog dog dog")
    assert short.encode("the dog runs again")[-1] != EOS
    assert len(short.encode("the dog runs again")) == 4


def wordpiece(file):
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "dog": 2, "##s": 3, "the": 7}  # ids with holes
    model = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.decoder = tokenizers.decoders.WordPiece()
    model.save(str(file))
    return str(file)


def test_a_pretrained_one_keeps_its_ids_behind_ours(tmp_path):
    given_ = SubwordTokenizer(words, 9, file=wordpiece(tmp_path / "tokenizer.json"))
    assert given_.fit(CAPTIONS) is given_
    ids = given_.encode("The cat , dogs .")
    assert ids == [BOS, 7 + 4, UNK, 2 + 4, 3 + 4, EOS]
    assert given_.decode(ids) == "the <unk> dogs"
    assert len(given_.vocabulary) == 4 + 8


def test_a_folder_with_one_is_as_good_as_its_file_and_cuts_and_pads_nothing(tmp_path):
    file = tmp_path / "tokenizer.json"
    model = tokenizers.Tokenizer.from_file(wordpiece(file))
    model.enable_truncation(1)
    model.enable_padding(length=6)
    model.save(str(file))
    for place in (file, tmp_path):
        ids = SubwordTokenizer(words, 9, file=str(place)).encode("the dogs")
        assert ids == [BOS, 7 + 4, 2 + 4, 3 + 4, EOS]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"^tokenizer\.file not found: .*/none/tokenizer\.json; name a "):
        SubwordTokenizer(words, 9, file=str(tmp_path / "none"))


def test_a_name_that_the_hub_cannot_give_is_one_line(monkeypatch):
    def offline(name):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(tokenizers.Tokenizer, "from_pretrained", offline, raising=True)
    with pytest.raises(UserError, match=r"^tokenizer\.file=some/model .*the hub.*\(ConnectionError\); .*$"):
        SubwordTokenizer(words, 9, file="some/model")


def test_a_checkpoint_carries_the_tokenizer(tmp_path):
    file = tmp_path / "tokenizer.json"
    for choice in (
        ["tokenizer=bpe", "tokenizer.vocab_size=300"],
        ["tokenizer=pretrained", f"tokenizer.file={wordpiece(file)}"],
    ):
        config = composed(*[word for word in TINY if "min_count" not in word], *choice)
        _, captioner = build.from_config(config)
        torch.save({"recipe": captioner.recipe, "state_dict": captioner.state_dict()}, tmp_path / "x.ckpt")
        file.unlink(missing_ok=True)
        saved = torch.load(tmp_path / "x.ckpt", weights_only=True)
        again, *_ = build.for_pictures(saved)
        assert again.tokenizer.vocabulary == captioner.tokenizer.vocabulary
        assert again.tokenizer.encode("a red circle") == captioner.tokenizer.encode("a red circle")
        images_BCHW = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
        assert len(again.caption(again.encoder(images_BCHW))) == 2
        wordpiece(file)


@pytest.mark.parametrize("content", [None, "", json.dumps({"a": 1})])
def test_a_file_that_is_no_tokenizer_is_one_line(content, tmp_path):
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.file.*tokenizer\.json"):
        SubwordTokenizer(words, 9, file=str(file))


def test_a_pretrained_one_needs_its_file():
    with pytest.raises(UserError, match=r"tokenizer\.file=PATH"):
        SubwordTokenizer(words, 9).fit(CAPTIONS)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"autocaption\[subwords\]"):
        SubwordTokenizer(words, 9, vocab_size=300).fit(CAPTIONS)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"max_length": 0}, "tokenizer.max_length=0: take a whole number, 1 or more"),
        ({"vocab_size": -1}, "tokenizer.vocab_size=-1: take a whole number, 256 or more"),
        ({"vocab_size": "many"}, "tokenizer.vocab_size=many: take a whole number"),
    ],
)
def test_a_number_out_of_range_is_one_line(numbers, said):
    with pytest.raises(UserError, match=f"^{said}"):
        SubwordTokenizer(words, **{"max_length": 5, "vocab_size": 280, **numbers}).fit(CAPTIONS)
