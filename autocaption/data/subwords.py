"""Tokens that are parts of words, by Hugging Face's tokenizers (the extra `subwords`)."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from autocaption.data.tokenizer import BOS, EOS, PAD, SPECIAL, UNK, encoded
from autocaption.errors import UserError

log = logging.getLogger(__name__)


class SubwordTokenizer:
    """A tokenizer of Hugging Face's behind our protocol; its ids follow our special tokens.

    It encodes a caption's words, and what it decodes is split into words again, so that metrics compare the
    same words whatever the tokenizer.

    Args:
        rule: splits a caption into words, as for `WordTokenizer`.
        max_length: most tokens of an encoded caption; references are never cut.
        vocab_size: tokens that `fit` learns by byte-pair encoding; None with a `file`.
        file: a tokenizer.json to take as it is; None to learn one.
        vocabulary: the content of a tokenizer.json, from a checkpoint.

    Raises:
        UserError: the extra isn't installed, or the file is no tokenizer.json.
    """

    def __init__(
        self,
        rule: Callable[[str], list[str]],
        max_length: int,
        vocab_size: int | None = None,
        file: str | None = None,
        vocabulary: str | None = None,
    ) -> None:
        self.rule, self.max_length, self.vocab_size, self.file = rule, max_length, vocab_size, file
        self._model: Any = None
        self.vocabulary: list[str] = list(SPECIAL)
        if vocabulary is not None or file is not None:
            self._use(_parsed(vocabulary, file))

    def __deepcopy__(self, memo: Any) -> "SubwordTokenizer":
        return self  # it never changes once it has a model

    @property
    def saved(self) -> str:
        """The content of its tokenizer.json."""
        return self._model.to_str()

    def fit(self, captions: Iterable[str]) -> "SubwordTokenizer":
        """A tokenizer with byte pairs learnt from these captions; itself where its model came from a file."""
        if self.file is not None:
            return self
        if self.vocab_size is None:
            raise UserError(
                "tokenizer=pretrained needs tokenizer.file=PATH, a tokenizer.json of Hugging Face"
            )
        tokenizers = _library()
        model = tokenizers.Tokenizer(tokenizers.models.BPE())
        model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
        model.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),  # every byte: nothing is unknown
        )
        model.train_from_iterator((self.normalize(caption) for caption in captions), trainer)
        log.info("Vocabulary: %d byte-pair tokens, which cover all text", model.get_vocab_size())
        return SubwordTokenizer(self.rule, self.max_length, self.vocab_size, vocabulary=model.to_str())

    def normalize(self, caption: str) -> str:
        """The caption's words separated by single spaces: what metrics compare."""
        return " ".join(self.rule(caption))

    def encode(self, caption: str) -> list[int]:
        """<bos>, the ids of the tokens, <eos>; a longer caption is cut, and its cut is no <eos> to learn."""
        ids = self._model.encode(self.normalize(caption), add_special_tokens=False).ids
        return encoded([UNK if i == self._unknown else i + len(SPECIAL) for i in ids], self.max_length)

    def decode(self, ids: Iterable[int]) -> str:
        """The words before the first <eos>; <unk> stays visible."""
        parts: list[list[int] | str] = [[]]
        for i in ids:
            if i == EOS:
                break
            if i == UNK:
                parts += [SPECIAL[UNK], []]
            elif i not in (PAD, BOS):
                parts[-1].append(i - len(SPECIAL))  # type: ignore[union-attr]
        texts = [
            part if isinstance(part, str) else self.normalize(self._model.decode(part)) for part in parts
        ]
        return " ".join(text for text in texts if text)

    def _use(self, model: Any) -> None:
        self._model = model
        names = sorted(model.get_vocab(with_added_tokens=True).items(), key=lambda pair: pair[1])
        size = names[-1][1] + 1 if names else 0
        tokens = [f"<unused {i}>" for i in range(size)]
        for name, i in names:
            tokens[i] = name
        self.vocabulary = [*SPECIAL, *tokens]
        unknown = getattr(model.model, "unk_token", None)
        self._unknown = model.token_to_id(unknown) if unknown else None


def _parsed(text: str | None, file: str | None) -> Any:
    tokenizers = _library()
    try:
        if text is None:
            text = Path(str(file)).expanduser().read_text(encoding="utf-8")
        return tokenizers.Tokenizer.from_str(text)
    except FileNotFoundError:
        raise UserError(f"tokenizer.file not found: {file}; name a tokenizer.json") from None
    except Exception as error:  # the library raises plain Exception
        reason = " ".join(str(error).split())
        raise UserError(f"tokenizer.file={file} is no tokenizer.json of Hugging Face: {reason}") from None


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            "tokenizer=bpe and pretrained need the package tokenizers: pip install 'autocaption[subwords]'"
        ) from None
    return tokenizers
