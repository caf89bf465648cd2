"""The encoded captions of a split.

Legend: B images, N captions an image, T time.
"""

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from autocaption.data.tokenizer import PAD, Tokenizer


class TokenTable:
    """Token ids of a split's captions, encoded once, as one flat array with offsets.

    A million captions take about 50 MB, which forked workers share, and a batch is gathered without a
    loop over captions.
    """

    def __init__(self, captions: Iterable[Sequence[str]], tokenizer: Tokenizer) -> None:
        """Encode the captions of each image, in order."""
        flat = array("i")
        lengths: list[int] = []  # of each caption
        counts: list[int] = []  # captions of each image
        for texts in captions:
            counts.append(len(texts))
            for text in texts:
                encoded = tokenizer.encode(text)
                lengths.append(len(encoded))
                flat.extend(encoded)
        self._flat = np.array(flat, np.int32)
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])  # of each caption
        self._first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])  # caption of each image

    def counts(self) -> np.ndarray:
        """The number of real target tokens of each image: all but <bos>."""
        first = self._first
        return self._starts[first[1:]] - self._starts[first[:-1]] - np.diff(first)

    def gather(self, images: Sequence[int]) -> tuple[Tensor, np.ndarray]:
        """tokens_BNT (int64) of these images, padded, and lengths_BN; N is the most captions any has."""
        images_B = np.asarray(images, np.int64)
        counts_B = self._first[images_B + 1] - self._first[images_B]
        slots_N = np.arange(max(counts_B.max(initial=0), 1))
        has_BN = slots_N < counts_B[:, None]
        caption_BN = np.where(has_BN, self._first[images_B][:, None] + slots_N, 0)
        start_BN = self._starts[caption_BN]
        length_BN = np.where(has_BN, self._starts[caption_BN + has_BN] - start_BN, 0)
        time_T = np.arange(length_BN.max(initial=0))
        real_BNT = time_T < length_BN[..., None]
        position_BNT = np.where(real_BNT, start_BN[..., None] + time_T, 0)
        tokens_BNT = np.where(real_BNT, self._flat[position_BNT], PAD).astype(np.int64)
        return torch.from_numpy(tokens_BNT), length_BN
