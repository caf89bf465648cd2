"""A frozen encoder's outputs, computed once and kept on disk.

Legend: B images, P places, D width.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from autocaption.checks import as_path, choice
from autocaption.data.image_table import pictures_of
from autocaption.data.manifest import Manifest
from autocaption.data.sources import CaptionedImage, Source
from autocaption.data.transforms import Transform
from autocaption.errors import UserError, one_line
from autocaption.features.extraction import Extraction, Views
from autocaption.files import allocate, lock, release_pages, try_lock, write_json
from autocaption.machine import without_collection
from autocaption.progress import track

log = logging.getLogger(__name__)

DTYPES = ("float16", "float32")
FORMAT = 2  # part of every key; raise it when the same inputs give different features
ARRAY, DONE = "features.npy", "done.json"
SAVE_EVERY = 512  # pictures; at most this many are lost in a crash


class FeatureCache:
    """Features on disk, in a folder named after everything that they depend on.

    The name is a digest of the encoder's structure and weights, the transform, and the content of every
    image, so that a change of any of them gives another folder and never a stale hit. While features are
    computed the folder is called `NAME.partial`; after a crash the next process continues there. A lock
    beside it makes a second process wait instead of computing the same.

    Args:
        folder: the folder of all caches.
        encoder: a frozen encoder.
        batch_size: images a forward pass.
        devices: devices of the forward passes, which take batches in turn.
        manifest: content digests of the pictures.
        dtype: data type on disk.
        autocast: data type of the forward passes under autocast; None for the encoder's own.

    Raises:
        UserError: the encoder is trained, so its outputs change.
    """

    def __init__(
        self,
        folder: str,
        encoder: nn.Module,
        batch_size: int,
        devices: Sequence[torch.device],
        manifest: Manifest,
        dtype: str = "float16",
        autocast: torch.dtype | None = None,
    ) -> None:
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            raise UserError(
                "data.features=cache needs a frozen encoder: take one with model.encoder.trainable=none"
            )
        self.folder, self.encoder = as_path("data.features_folder", folder), encoder
        self.batch_size, self.devices, self.manifest = batch_size, devices, manifest
        self.dtype, self.autocast = np.dtype(choice("data.features_dtype", dtype, DTYPES)), autocast

    def get(
        self, source: Source, images: Sequence[CaptionedImage], transform: Transform, views: int
    ) -> np.memmap:
        """Features (images, views, P, D), memory-mapped; computed unless they exist.

        Args:
            source: reads the pictures.
            images: the images of one split.
            transform: transform of the pictures; view k of an image is drawn from (k, its id).
            views: views of each image.

        Raises:
            UserError: a picture is broken, a feature is not finite, or the disk is full.
        """
        key = self._key(source, images, transform, views)
        final = self.folder / key
        if not final.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / f"{key}.lock"):
                if not final.exists():  # another process may have made it while this one waited
                    partial = self.folder / f"{key}.partial"
                    self._compute(partial, Views(source, images, transform, views))
                    os.rename(partial, final)
        return _mapped(final / ARRAY, "r")

    @without_collection()
    def _key(self, source: Source, images: Sequence[CaptionedImage], transform: Transform, views: int) -> str:
        digest = hashlib.blake2b(digest_size=12)
        settings = FORMAT, repr(self.encoder), transform, views, self.dtype.name, self.autocast
        digest.update(repr(settings).encode())
        for name in ("out_dim", "image_size", "pooling"):
            digest.update(repr((name, getattr(self.encoder, name, None))).encode())
        for name, tensor in [*self.encoder.state_dict().items(), *self.encoder.named_buffers()]:
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        ids, files = zip(*pictures_of(images), strict=True)
        known = iter(self.manifest.digests([file for file in files if file]))
        contents = (
            next(known) if file else _digest_of(source.read(images[index]))
            for index, file in enumerate(files)
        )
        lines = [f"{id} {content}\n" for id, content in zip(ids, contents, strict=True)]
        digest.update("".join(lines).encode())
        return digest.hexdigest()

    def _compute(self, partial: Path, views: Views) -> None:
        """Fill a folder, starting where an earlier process stopped."""
        extraction = Extraction(self.encoder, views, self.devices, self.dtype, self.autocast)
        array = self._open(partial, (len(views.images), views.count, *extraction.shape))
        rows = array.reshape(len(views), *extraction.shape)
        done = json.loads((partial / DONE).read_text())["rows"]
        log.info("Features: encoding %d pictures into %s", len(views) - done, partial.with_suffix(""))
        saved = done
        batches = extraction.batches(done, self.batch_size)
        for features_BPD in track(batches, "Encoding", len(views), len, done):
            self._require_finite(features_BPD, views, done)
            rows[done : done + len(features_BPD)] = features_BPD
            done += len(features_BPD)
            if done - saved >= SAVE_EVERY or done == len(views):
                array.flush()  # before the count: it must never be ahead of the data
                write_json(partial / DONE, {"rows": done})
                saved = done
                release_pages(array)

    def _require_finite(self, features_BPD: np.ndarray, views: Views, first: int) -> None:
        bad_B = ~np.isfinite(features_BPD).all((1, 2))
        if bad_B.any():
            image = views.images[(first + int(bad_B.argmax())) // views.count]
            raise UserError(
                f"the encoder's output for {image.path or image.id} is not finite in {self.dtype.name}; "
                "take data.features_dtype=float32, or check the encoder's weights"
            )

    def _open(self, partial: Path, shape: tuple[int, ...]) -> Any:
        partial.mkdir(exist_ok=True)
        if not (partial / DONE).exists():
            try:
                array = np.lib.format.open_memmap(partial / ARRAY, "w+", self.dtype, shape)
                allocate(partial / ARRAY)
                write_json(partial / DONE, {"rows": 0})
            except OSError as error:
                (partial / ARRAY).unlink(missing_ok=True)
                size = np.prod(shape) * self.dtype.itemsize / 2**30
                raise UserError(
                    f"no room for {size:.2f} GiB of features in {self.folder} ({error.strerror}); "
                    "name another folder with data.features_folder=DIR"
                ) from None
            return array
        return _mapped(partial / ARRAY, "r+")


def _mapped(file: Path, mode: Literal["r", "r+"]) -> Any:
    """The array in a file.

    Raises:
        UserError: the file isn't whole, such as one that was copied in part.
    """
    try:
        whole = np.load(file, mmap_mode="r")  # with r+ NumPy fills up what is missing with zeros
        return whole if mode == "r" else np.load(file, mmap_mode=mode)
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise UserError(
            f"the features in {file.parent} are damaged ({one_line(error)}); remove the folder, and they are "
            "computed again"
        ) from None


def _digest_of(picture: Image.Image) -> str:
    return hashlib.blake2b(picture.tobytes(), digest_size=16).hexdigest()


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a file lock, which the kernel releases however its holder ends."""
    with open(file, "w") as handle:
        if not try_lock(handle):
            log.info("Features: another process computes them; waiting for %s", file)
            lock(handle)
        yield
