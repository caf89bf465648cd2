"""Caption pictures with ONNX Runtime: python caption.py picture.jpg [--beam-size 3] [--output captions.json]

Needs numpy, pillow, onnxruntime, for a model of subwords also tokenizers, and the files beside it:
encoder.onnx, start.onnx, step.onnx, config.json.

    from caption import OnnxCaptioner

    captioner = OnnxCaptioner("folder")
    for text, score in captioner.caption("picture.jpg", beam_size=5):
        print(score, text)

Colour profiles are not looked at; everything else about a picture is as in training.

Legend: K beams, T words, V vocabulary, H height, W width.
"""

import argparse
import json
import math
import string
import sys
import unicodedata
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

PAD, BOS, EOS, UNK = range(4)
LONGEST = 32  # times its shorter side: so much of a picture is resized where its longer side is cut anyway
Text = Callable[[Sequence[int]], str]  # of tokens


class OnnxCaptioner:
    """A captioner whose encoder and decoder are ONNX graphs.

    Args:
        folder: holds the graphs and config.json.
        threads: of ONNX Runtime; 0 for one a core.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        vocabulary = self.config["vocabulary"]
        self.text = of_subwords(vocabulary) if isinstance(vocabulary, str) else of_words(vocabulary)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.encoder, self.start, self.step = (
            onnxruntime.InferenceSession(folder / f"{name}.onnx", options, ["CPUExecutionProvider"])
            for name in ("encoder", "start", "step")
        )

    def caption(
        self,
        picture: str | Path | Image.Image,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
    ) -> list[tuple[str, float]]:
        """Captions and scores of a picture, best first, by beam search.

        Args:
            picture: a file, or a picture of Pillow.
            beam_size: also the number of captions; 1 is greedy search. None for that of training, as below.
            length_penalty: 0 to rank by the sum of log-probabilities, 1 by their mean.
            max_length: most words.
        """
        return self.caption_pixels(self.pixels(picture), beam_size, length_penalty, max_length)

    def pixels(self, picture: str | Path | Image.Image) -> np.ndarray:
        """What the encoder takes, uint8 (3, H, W): the picture as each of the encoders wants it."""
        if not isinstance(picture, Image.Image):
            with Image.open(picture) as image:
                return self.pixels(image)
        picture = ImageOps.exif_transpose(picture)
        if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
            picture = of_8_bits(picture)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        views = [square(picture.convert("RGB"), **one) for one in self.config["pictures"]]
        width = max(view_CHW.shape[2] for view_CHW in views)
        return np.concatenate([np.pad(one, [(0, 0), (0, 0), (0, width - one.shape[2])]) for one in views], 1)

    def caption_pixels(
        self,
        pixels_CHW: np.ndarray,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
    ) -> list[tuple[str, float]]:
        """`caption` of what `pixels` gives."""
        search = self.config["search"]
        K = beam_size or search["beam_size"]
        penalty = search["length_penalty"] if length_penalty is None else length_penalty
        T = max_length or search["max_length"]
        (memory,) = self.encoder.run(None, {"images": pixels_CHW[None]})
        found = self.beams(memory, K, penalty, T)
        return [(self.text([i for i in tokens if i > EOS]), score) for score, tokens in found]

    def beams(self, memory: np.ndarray, K: int, penalty: float, T: int) -> list[tuple[float, list[int]]]:
        """(score, tokens) of the K best captions, best first."""
        state = dict(zip(self._names(self.start), self.start.run(None, {"memory": memory}), strict=True))
        logits_KV, state = self._step(np.array([BOS]), state)
        logits_KV = logits_KV.repeat(K, 0)
        state = self._reordered(state, np.zeros(K, np.int64))
        live: list[list[int]] = [[] for _ in range(K)]
        scores_K = np.full(K, -np.inf, np.float32)
        scores_K[0] = 0  # all beams are equal before the first word
        pool: list[tuple[float, list[int]]] = []
        for time in range(T):
            logp_KV = self._allowed(log_softmax(logits_KV), live)
            V = logp_KV.shape[1]
            total = (scores_K[:, None] + logp_KV).ravel()
            best = np.argsort(-total, kind="stable")[: 2 * K]
            ended = best % V == EOS
            # One that ends counts only among the best K, which makes a beam of one greedy search.
            for index in best[:K][ended[:K]]:
                pool.append((float(total[index]) / (time + 1) ** penalty, [*live[index // V], EOS]))
            kept = best[~ended][:K]
            scores_K, live = total[kept], [[*live[index // V], int(index % V)] for index in kept]
            pool = _best(pool, K)
            worst = pool[-1][0] if len(pool) == K else -math.inf
            favourable = max((time + 2) ** penalty, T**penalty)
            if time == T - 1 or not scores_K.max(initial=-np.inf) / favourable > worst:
                break
            state = self._reordered(state, kept // V)
            logits_KV, state = self._step(kept % V, state)
        if time == T - 1:
            pool = _best(
                pool + [(float(s) / T**penalty, one) for s, one in zip(scores_K, live, strict=True)], K
            )
        return pool

    def _allowed(self, logp_KV: np.ndarray, live: list[list[int]]) -> np.ndarray:
        """Log-probabilities, -inf where the search of training forbids a word."""
        search = self.config["search"]
        logp_KV[:, [PAD, BOS] if search["allow_unk"] else [PAD, BOS, UNK]] = -np.inf
        n = search["no_repeat_ngram"]
        for logp_V, tokens in zip(logp_KV, live, strict=True):
            if len(tokens) < search["min_length"]:
                logp_V[EOS] = -np.inf
            if n and len(tokens) >= n:
                start = tokens[len(tokens) - n + 1 :]
                said = (tokens[i : i + n] for i in range(len(tokens) - n + 1))
                logp_V[[ngram[-1] for ngram in said if ngram[:-1] == start]] = -np.inf
        return logp_KV

    def _step(self, tokens_K: np.ndarray, state: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
        logits_KV, *changed = self.step.run(None, {"tokens": tokens_K.astype(np.int64), **state})
        names = [name.removesuffix("_after") for name in self._names(self.step)[1:]]
        return logits_KV, {**state, **dict(zip(names, changed, strict=True))}

    def _reordered(self, state: dict[str, np.ndarray], rows_K: np.ndarray) -> dict[str, np.ndarray]:
        """The state with its beams reordered; what all beams share stays as it is."""
        return {name: part[rows_K] if name.startswith("row") else part for name, part in state.items()}

    @staticmethod
    def _names(session: onnxruntime.InferenceSession) -> list[str]:
        return [output.name for output in session.get_outputs()]


def of_words(vocabulary: Sequence[str]) -> Text:
    """Text of tokens that are words."""
    return lambda tokens: " ".join(vocabulary[i] for i in tokens)


def of_subwords(vocabulary: str) -> Text:
    """Text of tokens that are parts of words, by the tokenizer of which this is the tokenizer.json."""
    import tokenizers

    model = tokenizers.Tokenizer.from_str(vocabulary)

    def text(tokens: Sequence[int]) -> str:
        found: list[str] = []
        for unknown, group in groupby(tokens, lambda i: i == UNK):
            own = [i - UNK - 1 for i in group]  # its ids follow the special ones
            found += ["<unk>"] * len(own) if unknown else words(model.decode(own))
        return " ".join(found)

    return text


def words(text: str) -> list[str]:
    """Lower case, split at white space, without punctuation: what training split a caption into."""
    text = unicodedata.normalize("NFC", text).lower()
    return unicodedata.normalize("NFC", "".join(one for one in text if not _is_deleted(one))).split()


def _is_deleted(character: str) -> bool:
    category = unicodedata.category(character)
    mark = category[0] == "P" or category == "Sk" or character in string.punctuation
    return mark or (category == "Cf" and character not in "\u200c\u200d")  # zero-width (non-)joiners


def square(
    picture: Image.Image, size: int, crop_share: float, fit: str, interpolation: str, colour: Sequence[int]
) -> np.ndarray:
    """The centre of a picture as an encoder wants it, uint8 (3, H, W)."""
    side = round(size / crop_share)
    scaled = (side, side)
    if fit == "crop":
        picture = middle(picture)
    if fit != "squash":
        among = min if fit == "crop" else max  # the sides, the one that becomes `side`
        whole = int if fit == "crop" else round
        width, height = (max(1, whole(side * one / among(picture.size))) for one in picture.size)
        scaled = (width, height)
    picture = picture.resize(scaled, Image.Resampling[interpolation.upper()])
    if fit == "pad":
        padded = Image.new("RGB", (side, side), tuple(colour))
        padded.paste(picture, ((side - scaled[0]) // 2, (side - scaled[1]) // 2))
        picture = padded
    left, top = (round((one - size) / 2) for one in picture.size)
    return np.asarray(picture.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def middle(picture: Image.Image) -> Image.Image:
    """A picture without its far ends: resized as a whole, one of 1 x 60,000 pixels would fill the memory."""
    most = LONGEST * min(picture.size)
    width, height = (min(side, most + (side - most) % 2) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def of_8_bits(picture: Image.Image) -> Image.Image:
    """Deep grey scaled by the range of its type, or the smallest in use that holds it, or else its own."""
    values = np.asarray(picture).astype(np.float64)
    values = np.where(np.isfinite(values), values, values[np.isfinite(values)].min())
    low, high = values.min(), values.max()
    if picture.mode.startswith("I;16"):
        low, high = 0, 65535
    elif low >= 0:
        ranges = (255, 65535) if picture.mode == "I" else (1, 255, 65535)
        low, high = next(((0, top) for top in ranges if high <= top), (low, high))
    scaled = (values - low) * (255 / max(high - low, 1e-300))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def log_softmax(logits_KV: np.ndarray) -> np.ndarray:
    """The logarithm of the softmax."""
    shifted_KV = logits_KV - logits_KV.max(1, keepdims=True)
    return shifted_KV - np.log(np.exp(shifted_KV).sum(1, keepdims=True))


def _best(pool: list[tuple[float, list[int]]], k: int) -> list[tuple[float, list[int]]]:
    return sorted((one for one in pool if one[0] > -math.inf), key=lambda one: -one[0])[:k]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Caption pictures with ONNX Runtime.")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--beam-size", type=int)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="also write the captions here, in COCO's result format"
    )
    arguments = parser.parse_args()
    if arguments.beam_size is not None and arguments.beam_size < 1:
        parser.error(f"--beam-size={arguments.beam_size}: take 1 or more")
    if arguments.output and not arguments.output.parent.is_dir():
        parser.error(f"--output={arguments.output}: there is no folder {arguments.output.parent}")
    folder = Path(__file__).parent
    try:
        captioner = OnnxCaptioner(folder)
    except ModuleNotFoundError as error:
        sys.exit(f"captions of this model need `pip install {error.name}`")
    except Exception as error:  # ONNX Runtime has its own for each kind of damage
        sys.exit(f"the model in {folder} is not whole: {' '.join(str(error).split())}; export it again")
    results, unread = [], 0
    for picture in arguments.pictures:
        try:
            pixels = captioner.pixels(picture)
        except Exception as error:  # a malformed file can make Pillow raise nearly anything
            print(f"{picture}: {error or type(error).__name__}", file=sys.stderr)
            unread += 1
            continue
        text = captioner.caption_pixels(pixels, arguments.beam_size)[0][0]
        print(picture, text, sep="\t", flush=True)
        results.append({"image_id": Path(picture).name, "caption": text})
    if arguments.output:
        aside = arguments.output.with_name(f"{arguments.output.name}.partial")
        try:
            aside.write_text(json.dumps(results), encoding="utf-8")
            aside.replace(arguments.output)
        except OSError as error:
            sys.exit(f"cannot write {arguments.output}: {error.strerror}")
    if unread:
        sys.exit(f"{unread} of {len(arguments.pictures)} pictures can't be read")


if __name__ == "__main__":
    main()
