"""Tokens that are parts of words, by Hugging Face's tokenizers (the extra `subwords`)."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from autocaption.checks import as_path, whole
from autocaption.data.tokenizer import BOS, EOS, PAD, SPECIAL, UNK, encoded
from autocaption.errors import UserError

log = logging.getLogger(__name__)

WRITTEN_BY = (
    "name a tokenizer.json; for any model, AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER) of "
    "transformers writes one"
)


class SubwordTokenizer:
    """A tokenizer of Hugging Face's behind our protocol; its ids follow our special tokens.

    It encodes a caption's words, and what it decodes is split into words again, so that metrics compare the
    same words whatever the tokenizer.

    Args:
        rule: splits a caption into words, as for `WordTokenizer`.
        max_length: most tokens of an encoded caption; references are never cut.
        vocab_size: tokens that `fit` learns by byte-pair encoding; None with a `file`.
        file: a tokenizer.json to take as it is, a folder with one, or a model of Hugging Face's hub; None to
            learn one.
        vocabulary: the content of a tokenizer.json, from a checkpoint.

    Raises:
        UserError: the extra isn't installed, the file is no tokenizer.json, or a number is out of range.
    """

    def __init__(
        self,
        rule: Callable[[str], list[str]],
        max_length: int,
        vocab_size: int | None = None,
        file: str | None = None,
        vocabulary: str | None = None,
    ) -> None:
        self.rule, self.vocab_size, self.file = rule, vocab_size, file
        self.max_length = whole("tokenizer.max_length", max_length, 1)
        self._model: Any = None
        self.vocabulary: list[str] = list(SPECIAL)
        if vocabulary is not None or file is not None:
            self._use(_read(str(file)) if vocabulary is None else _parsed(vocabulary, "its checkpoint"))

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
                "tokenizer=pretrained needs tokenizer.file=PATH, a tokenizer.json of Hugging Face, a folder "
                "with one, or a model of the hub"
            )
        vocab_size = whole("tokenizer.vocab_size", self.vocab_size, 256)  # the bytes
        tokenizers = _library()
        model = tokenizers.Tokenizer(tokenizers.models.BPE())
        model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
        model.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),  # every byte: nothing is unknown
        )
        model.train_from_iterator((self.normalize(caption) for caption in captions), trainer)
        log.info("Vocabulary: %d byte-pair tokens, which cover all text", model.get_vocab_size())
        return SubwordTokenizer(self.rule, self.max_length, self.vocab_size, vocabulary=model.to_str())

    def normalize(self, caption: str) -> str:
        """The caption's words separated by single spaces: what metrics compare."""
        text = " ".join(self.rule(caption))
        return text.encode("utf-8", "replace").decode()  # JSON may hold half a character

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
        model.no_truncation()  # some files bring settings of their own; `max_length` cuts, <pad> is ours
        model.no_padding()
        names = sorted(model.get_vocab(with_added_tokens=True).items(), key=lambda pair: pair[1])
        size = names[-1][1] + 1 if names else 0
        tokens = [f"<unused {i}>" for i in range(size)]
        for name, i in names:
            tokens[i] = name
        self.vocabulary = [*SPECIAL, *tokens]
        unknown = getattr(model.model, "unk_token", None)
        self._unknown = model.token_to_id(unknown) if unknown else None


def _read(file: str) -> Any:
    """The tokenizer of a tokenizer.json, of a folder with one, or of the hub."""
    path = as_path("tokenizer.file", file)
    if path.is_dir():
        path /= "tokenizer.json"
    elif not path.exists() and not _is_path(file):
        return _of_hub(file)
    try:
        return _parsed(path.read_text(encoding="utf-8"), file)
    except FileNotFoundError:
        raise UserError(f"tokenizer.file not found: {path}; {WRITTEN_BY}") from None
    except (OSError, UnicodeError) as error:
        raise UserError(f"tokenizer.file={file} is no tokenizer.json of Hugging Face: {error}") from None


def _is_path(file: str) -> bool:
    return file.startswith(("/", "~", ".")) or file.endswith(".json")


def _of_hub(name: str) -> Any:
    try:
        return _library().Tokenizer.from_pretrained(name)
    except UserError:
        raise
    except Exception as error:  # the hub's client has a dozen errors of its own
        raise UserError(
            f"tokenizer.file={name} is neither here nor could the hub give it ({type(error).__name__}); "
            f"{WRITTEN_BY}"
        ) from None


def _parsed(text: str, origin: str) -> Any:
    tokenizers = _library()
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        reason = " ".join(str(error).split())
        raise UserError(f"tokenizer.file={origin} is no tokenizer.json of Hugging Face: {reason}") from None


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            "tokenizer=bpe and pretrained need the package tokenizers: pip install 'autocaption[subwords]'"
        ) from None
    return tokenizers
