"""A frozen encoder's outputs, computed once and kept on disk.

Legend: B images, P places, D width.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autocaption.data.sources import CaptionedImage, Source
from autocaption.data.transforms import Transform
from autocaption.errors import UserError
from autocaption.features.folding import folded
from autocaption.files import release_pages, write_json
from autocaption.progress import track
from autocaption.randomness import seed_of

log = logging.getLogger(__name__)

FORMAT = 1  # part of every key; raise it when the same inputs give different features
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
        num_workers: threads that read and transform pictures.
        device: device of the forward passes.
        dtype: data type on disk.

    Raises:
        UserError: the encoder is trained, so its outputs change.
    """

    def __init__(
        self,
        folder: str,
        encoder: nn.Module,
        batch_size: int,
        num_workers: int,
        device: str,
        dtype: str = "float16",
    ) -> None:
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            raise UserError(
                "data.features=cache needs a frozen encoder: take one with model.encoder.trainable=none"
            )
        self.folder, self.encoder = Path(folder), encoder
        self.batch_size, self.num_workers, self.device = batch_size, num_workers, device
        self.dtype = np.dtype(dtype)

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
            UserError: a picture is broken, or the disk is full.
        """
        key = self._key(source, images, transform, views)
        final = self.folder / key
        if not final.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / f"{key}.lock"):
                if not final.exists():  # another process may have made it while this one waited
                    partial = self.folder / f"{key}.partial"
                    self._compute(partial, _Views(source, images, transform, views))
                    os.rename(partial, final)
        return np.load(final / ARRAY, mmap_mode="r")

    def _key(self, source: Source, images: Sequence[CaptionedImage], transform: Transform, views: int) -> str:
        digest = hashlib.blake2b(digest_size=12)
        digest.update(repr((FORMAT, repr(self.encoder), transform, views, self.dtype.name)).encode())
        for name in ("out_dim", "image_size", "pooling"):
            digest.update(repr((name, getattr(self.encoder, name, None))).encode())
        for name, tensor in [*self.encoder.state_dict().items(), *self.encoder.named_buffers()]:
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        for image in images:
            content = image.path.read_bytes() if image.path else source.read(image).tobytes()
            digest.update(image.id.encode() + hashlib.blake2b(content, digest_size=16).digest())
        return digest.hexdigest()

    @torch.inference_mode()
    def _compute(self, partial: Path, views: "_Views") -> None:
        """Fill a folder, starting where an earlier process stopped."""
        example_BCHW = self._moved(views[0].unsqueeze(0))
        encoder = folded(self.encoder.to(self.device).eval(), example_BCHW)
        example_PD = self._encode(encoder, example_BCHW)[0]
        array = self._open(partial, (len(views.images), views.count, *example_PD.shape))
        rows = array.reshape(len(views), *example_PD.shape)
        done = json.loads((partial / DONE).read_text())["rows"]
        log.info("Features: encoding %d pictures into %s", len(views) - done, partial.with_suffix(""))
        saved = done
        for images_BCHW in track(self._batches(views, done), "Encoding", len(views), len, done):
            features_BPD = self._encode(encoder, images_BCHW)
            rows[done : done + len(features_BPD)] = features_BPD.cpu().numpy()
            done += len(features_BPD)
            if done - saved >= SAVE_EVERY or done == len(views):
                array.flush()  # before the count: it must never be ahead of the data
                write_json(partial / DONE, {"rows": done})
                saved = done
                release_pages(array)

    def _batches(self, views: "_Views", start: int) -> Iterator[Tensor]:
        """images_BCHW of the views from `start`, read by threads while the previous batch is encoded.

        Threads rather than a DataLoader's processes: decoding releases the GIL, and starting and copying
        between processes takes a tenth of the encoder's time on two cores.
        """
        with ThreadPoolExecutor(max(1, self.num_workers)) as pool:
            ahead: deque[list[Future[Tensor]]] = deque()
            for first in range(start, len(views), self.batch_size):
                rows = range(first, min(first + self.batch_size, len(views)))
                ahead.append([pool.submit(views.__getitem__, row) for row in rows])
                if len(ahead) > 1:
                    yield _stacked(ahead.popleft())
            if ahead:
                yield _stacked(ahead.popleft())

    def _encode(self, encoder: nn.Module, images_BCHW: Tensor) -> Tensor:
        return encoder(self._moved(images_BCHW)).to(getattr(torch, self.dtype.name))

    def _moved(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW.to(self.device, memory_format=torch.channels_last, non_blocking=True)

    def _open(self, partial: Path, shape: tuple[int, ...]) -> Any:
        partial.mkdir(exist_ok=True)
        if not (partial / DONE).exists():
            try:
                array = np.lib.format.open_memmap(partial / ARRAY, "w+", self.dtype, shape)
                # Allocate now: writing to a hole in the file on a full disk would kill the process.
                with open(partial / ARRAY, "r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, os.path.getsize(partial / ARRAY))
                write_json(partial / DONE, {"rows": 0})
            except OSError as error:
                (partial / ARRAY).unlink(missing_ok=True)
                size = np.prod(shape) * self.dtype.itemsize / 2**30
                raise UserError(
                    f"no room for {size:.2f} GiB of features in {self.folder} ({error.strerror}); "
                    "name another folder with data.features_folder=DIR"
                ) from None
            return array
        return np.lib.format.open_memmap(partial / ARRAY, "r+")


class _Views:
    """All views of all images, image by image, as transformed pictures."""

    def __init__(
        self, source: Source, images: Sequence[CaptionedImage], transform: Transform, count: int
    ) -> None:
        self.source, self.images, self.transform, self.count = source, images, transform, count

    def __len__(self) -> int:
        return len(self.images) * self.count

    def __getitem__(self, row: int) -> Tensor:
        image, view = self.images[row // self.count], row % self.count
        return self.transform(self.source.read(image), seed_of("stored view", view, image.id))


def _stacked(pictures: list[Future[Tensor]]) -> Tensor:
    return torch.stack([picture.result() for picture in pictures])


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a file lock, which the kernel releases however its holder ends."""
    with open(file, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("Features: another process computes them; waiting for %s", file)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
