"""The runner's text of tokens, against the tokenizers of training."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocaption.data import tokenizer
from autocaption.data.subwords import SubwordTokenizer
from autocaption.data.tokenizer import UNK

pytest.importorskip("onnxruntime")

from autocaption.export import onnx_caption

tokenizers = pytest.importorskip("tokenizers")

CAPTIONS = [
    "Two dogs' run, one \u201cbarks\u201d.",
    "a caf\u00e9 at the lake",
    "\u05db\u05dc\u05d1 \u05e8\u05e5",
] * 3


@settings(max_examples=40)
@given(st.text() | st.text("aB\u0301\u200c\u200d\u00ad\u00b4'.-$ \n"))
def test_it_splits_words_as_training_does(text):
    assert onnx_caption.words(text) == tokenizer.words(text)


def test_it_names_the_package_that_subwords_need(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"vocabulary": "{}"}))
    monkeypatch.setattr(onnx_caption, "__file__", str(tmp_path / "caption.py"))
    monkeypatch.setattr("sys.argv", ["caption.py", "picture.jpg"])
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(SystemExit, match=r"^captions of this model need `pip install tokenizers`$"):
        onnx_caption.main()


@pytest.fixture(name="learnt", scope="module")
def byte_pairs():
    return SubwordTokenizer(tokenizer.words, 30, vocab_size=280).fit(CAPTIONS)


@pytest.fixture(name="given", scope="module")
def word_pieces(tmp_path_factory):
    """A tokenizer.json with special and unknown tokens of its own, and another decoder."""
    model = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    model.decoder = tokenizers.decoders.WordPiece()
    names = ["[UNK]", "[CLS]", "[SEP]"]
    model.train_from_iterator(
        CAPTIONS, tokenizers.trainers.WordPieceTrainer(vocab_size=80, special_tokens=names)
    )
    model.save(str(file := tmp_path_factory.mktemp("pieces") / "tokenizer.json"))
    return SubwordTokenizer(tokenizer.words, 30, file=str(file))


@pytest.mark.parametrize("kind", ["learnt", "given"])
@settings(max_examples=60)
@given(data=st.data())
def test_it_spells_tokens_as_training_does(kind, request, data):
    training = request.getfixturevalue(kind)
    text = onnx_caption.of_subwords(training.saved)
    for caption in CAPTIONS:
        tokens = training.encode(caption)[1:-1]
        assert text(tokens) == training.decode(tokens)
    tokens = data.draw(st.lists(st.integers(UNK, len(training.vocabulary) - 1) | st.just(UNK), max_size=12))
    assert text(tokens) == training.decode(tokens)
