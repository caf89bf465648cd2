"""A frozen encoder's outputs for pictures, computed on all devices of a machine.

Legend: B images, P places, D width.
"""

import copy
import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from autocaption.data.sources import CaptionedImage, Source
from autocaption.data.transforms import Transform
from autocaption.features.folding import folded
from autocaption.machine import cores
from autocaption.randomness import seed_of

Encode = Callable[[Tensor], np.ndarray]
FEW = 8  # pictures a forward pass on a CPU: feature maps of more don't stay in its caches


class Views:
    """All views of all images, image by image, as transformed pictures."""

    def __init__(
        self, source: Source, images: Sequence[CaptionedImage], transform: Transform, count: int
    ) -> None:
        self.source, self.images, self.transform, self.count = source, images, transform, count

    def __len__(self) -> int:
        return len(self.images) * self.count

    def __getitem__(self, row: int) -> Tensor:
        image, view = self.images[row // self.count], row % self.count
        picture = self.source.read(image, self.transform.least)
        return self.transform(picture, seed_of("stored view", view, image.id))


class Extraction:
    """Encodes views, batch by batch, with a copy of the encoder on each device.

    Args:
        encoder: a frozen encoder; alone on its device, it is moved there.
        views: the pictures.
        devices: devices that take the batches in turn.
        dtype: data type of the outputs.
        autocast: data type of the forward passes under autocast; None for the encoder's own.
    """

    def __init__(
        self,
        encoder: nn.Module,
        views: Views,
        devices: Sequence[torch.device],
        dtype: np.dtype,
        autocast: torch.dtype | None,
    ) -> None:
        self.views, self.dtype, self.autocast = views, getattr(torch, dtype.name), autocast
        example_BCHW = views[0].unsqueeze(0)
        copies = [encoder] if len(devices) == 1 else [copy.deepcopy(encoder) for _ in devices]
        self._encoders: list[Encode] = [
            functools.partial(self._encode, device, _ready(one, device, example_BCHW))
            for one, device in zip(copies, devices, strict=True)
        ]
        self.shape: tuple[int, ...] = self._encoders[0](example_BCHW).shape[1:]  # (P, D)
        self._on_cpu = devices[0].type == "cpu"
        if self._on_cpu:
            self._encoders *= torch.get_num_threads()

    def batches(self, start: int, batch_size: int) -> Iterator[np.ndarray]:
        """features_BPD of the views from `start`, in order; later ones are read and encoded meanwhile.

        Threads rather than a DataLoader's processes: decoding releases the GIL, and starting and copying
        between processes takes a tenth of the encoder's time on two cores. On a CPU each core encodes a few
        pictures of its own, since many layers are too small to be shared out among cores.

        Args:
            start: the first view.
            batch_size: the most views a forward pass.
        """
        if self._on_cpu:
            batch_size = min(batch_size, FEW)
        turns, most = itertools.cycle(self._encoders), 2 * len(self._encoders)
        with ThreadPoolExecutor(cores()) as readers, self._threads() as encoders:
            ahead: deque[Future[np.ndarray]] = deque()
            for first in range(start, len(self.views), batch_size):
                rows = range(first, min(first + batch_size, len(self.views)))
                pictures = [readers.submit(self.views.__getitem__, row) for row in rows]
                ahead.append(encoders.submit(_encode_when_read, next(turns), pictures))
                if len(ahead) > most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """A thread an encoder; on a CPU they share out the threads that torch has for an operation."""
        before = torch.get_num_threads()
        each = 1 if self._on_cpu else before
        try:
            with ThreadPoolExecutor(
                len(self._encoders), "encoder", torch.set_num_threads, (each,)
            ) as threads:
                yield threads
        finally:
            torch.set_num_threads(before)  # what a thread sets is the default of threads to come

    @torch.inference_mode()  # here, since it is a thread's own
    def _encode(self, device: torch.device, encoder: nn.Module, images_BCHW: Tensor) -> np.ndarray:
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            features_BPD = encoder(_moved(images_BCHW, device))
        return features_BPD.to(self.dtype).cpu().numpy()


@torch.inference_mode()
def _ready(encoder: nn.Module, device: torch.device, example_BCHW: Tensor) -> nn.Module:
    ready = folded(encoder.to(device).eval(), _moved(example_BCHW, device))
    return ready.to(memory_format=torch.channels_last)


def _encode_when_read(encode: Encode, pictures: list[Future[Tensor]]) -> np.ndarray:
    return encode(torch.stack([picture.result() for picture in pictures]))


def _moved(images_BCHW: Tensor, device: torch.device) -> Tensor:
    return images_BCHW.to(device, memory_format=torch.channels_last, non_blocking=True)
