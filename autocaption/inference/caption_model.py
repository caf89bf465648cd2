"""A trained model that captions pictures.

Legend: B images, K captions an image, T time; C channels, H height, W width.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from autocaption import build
from autocaption.checks import choice, whole
from autocaption.data.given_pictures import Content, GivenPicture, Readable, opened
from autocaption.data.tokenizer import EOS, until_end
from autocaption.data.transforms import Box
from autocaption.errors import UserError
from autocaption.inference.captions import Caption, captions_of
from autocaption.inference.named_search import named_search
from autocaption.machine import cores
from autocaption.models.captioner import Captioner
from autocaption.models.protocols import Captions
from autocaption.models.word_maps import WordMaps, word_maps
from autocaption.precision import PRECISIONS, autocast_type


@dataclass(frozen=True)
class Prepared:
    """A picture as the encoder takes it.

    Attributes:
        pixels_CHW: uint8 RGB.
        seen: the part of the upright picture that it shows, as in WordMaps.
    """

    pixels_CHW: Tensor
    seen: Box


Picture = GivenPicture | Prepared


class CaptionModel:
    """A trained model that captions pictures. It never changes, so threads may share one.

    Args:
        saved: a checkpoint, as `runs/checkpoint.py` reads it.
        device: where to compute.
        precision: as in `autocaption.load`.

    Attributes:
        captioner: the LightningModule, in eval mode.
        device: where it computes.
        max_pixels: a picture of more pixels is refused.
    """

    def __init__(self, saved: dict[str, Any], device: torch.device, precision: str | None) -> None:
        captioner, self._transform, self.max_pixels = build.for_pictures(saved)
        self._config = build.config_of(saved)
        self.captioner: Captioner = captioner.to(device)
        self.device = device
        if precision == "auto":
            precision = build.fastest(self._config, device.type)
        own = "32-true" if precision is None else precision  # as the weights are
        self._autocast = autocast_type(choice("precision", own, PRECISIONS))

    @overload
    def caption(
        self, images: Picture, k: int = ..., search: str | None = ..., batch_size: int = ..., **settings: Any
    ) -> list[Caption]: ...
    @overload
    def caption(
        self,
        images: Iterable[Picture],
        k: int = ...,
        search: str | None = ...,
        batch_size: int = ...,
        **settings: Any,
    ) -> list[list[Caption]]: ...
    def caption(
        self,
        images: Picture | Iterable[Picture],
        k: int = 1,
        search: str | None = None,
        batch_size: int = 32,
        **settings: Any,
    ) -> list[Caption] | list[list[Caption]]:
        """The k best captions of a picture, or of each of several.

            model.caption("dog.jpg", k=5)
            model.caption(Path("photos").glob("*.jpg"), search="beam", beam_size=5, length_penalty=0.7)
            model.caption(picture, k=3, search="sample", temperature=0.8, seed=1)

        A picture is a path, an open file, its content (bytes), a PIL image, a uint8 array (H, W, C), a uint8
        tensor (C, H, W), or what `prepare` returns.

        Args:
            images: a picture, or any iterable of pictures, which are captioned in batches.
            k: the number of captions. Fewer are returned where the search finds no more.
            search: `greedy`, `beam`, `diverse_beam`, `consensus` or `sample`: a file of conf/search; None for
                the search that the model was trained with. One that gives several captions gives k.
            batch_size: the number of pictures that are computed together.
            settings: of the search, in place of its own: beam_size, length_penalty, temperature, ...

        Returns:
            captions, best first; for several pictures a list of such lists.

        Raises:
            UserError: a picture cannot be read, or the search can't do what is asked.
        """
        k, batch_size = whole("k", k, 1), whole("batch_size", batch_size, 1)
        finds = named_search(self._config, search, k, settings)
        if _is_one(images):
            return self._captions([self.prepare(images)], finds, k)[0]  # type: ignore[arg-type]
        found: list[list[Caption]] = []
        remaining = iter(images)  # type: ignore[arg-type]
        with ThreadPoolExecutor(cores()) as threads:  # Pillow decodes without the interpreter's lock
            while batch := list(islice(remaining, batch_size)):
                found += self._captions(list(threads.map(self.prepare, batch)), finds, k)
        return found

    @overload
    def attention(self, image: Picture, caption: str | Caption | None = ...) -> WordMaps: ...
    @overload
    def attention(self, image: Picture, caption: list[Caption] | list[str]) -> list[WordMaps]: ...
    def attention(
        self, image: Picture, caption: str | Caption | list[Caption] | list[str] | None = None
    ) -> WordMaps | list[WordMaps]:
        """Where the decoder looks in a picture for each word of a caption.

        Args:
            image: a picture, as for `caption`.
            caption: what it is asked to say; None for its own best caption. Several at once give a list.

        Raises:
            UserError: the decoder doesn't attend, or not to a square grid; or a caption is longer than those
                of training.
        """
        prepared = self.prepare(image)
        if caption is None:
            (caption,) = self.caption(prepared)
        captions: Any = caption if isinstance(caption, list) else [caption]
        for one in captions:
            if not isinstance(one, str | Caption):
                raise UserError(f"{one!r} is no caption; give a text, a Caption, or a list of them")
        said = [one.tokens if isinstance(one, Caption) else self._tokens(one) for one in captions]
        with self._computing():
            memory_1PD = self._encoded([prepared])
        with torch.inference_mode():
            found = word_maps(
                *(self.captioner.encoder, self.captioner.decoder, memory_1PD, said),
                *(self.captioner.tokenizer, prepared.seen),
            )
        return found if isinstance(caption, list) else found[0]

    def prepare(self, image: Picture, name: str | None = None, max_pixels: int | None = None) -> Prepared:
        """Decode, crop and resize a picture, which needs no model and may be done in any thread.

        Args:
            image: a picture, as for `caption`.
            name: what errors call it; None for its path or its kind.
            max_pixels: a picture of more pixels is refused before it is decoded; None for the model's limit.

        Raises:
            UserError: it cannot be read.
        """
        if isinstance(image, Prepared):
            return image
        picture: Image.Image = opened(image, name, self._transform.least, max_pixels or self.max_pixels)
        return Prepared(self._transform(picture, seed=0), self._transform.seen(*picture.size))

    def _tokens(self, caption: str) -> tuple[int, ...]:
        tokens = self.captioner.tokenizer.encode(caption)
        if tokens[-1] != EOS:
            raise UserError(
                f"a caption of {len(caption.split())} words is longer than the model's tokenizer.max_length; "
                "shorten it"
            )
        return until_end(tokens[1:])

    def _captions(self, batch: Sequence[Prepared], search: Any, k: int) -> list[list[Caption]]:
        # A sample depends on the picture, not on what it is captioned with.
        ids = [blake2b(one.pixels_CHW.numpy().tobytes(), digest_size=8).hexdigest() for one in batch]
        with self._computing():
            found: Captions = search(self.captioner.decoder, self._encoded(batch), ids)
        return captions_of(found, self.captioner.tokenizer, k, getattr(search, "length_penalty", 0.0))

    def _encoded(self, batch: Sequence[Prepared]) -> Any:
        images_BCHW = torch.stack([one.pixels_CHW for one in batch])
        return self.captioner.encoder(images_BCHW.to(self.device))

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        autocast = torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None)
        with torch.inference_mode(), autocast:
            yield


def _is_one(images: Any) -> bool:
    one = str | os.PathLike | Content | Readable | Image.Image | np.ndarray | Tensor | Prepared
    return isinstance(images, one) or not isinstance(images, Iterable)
