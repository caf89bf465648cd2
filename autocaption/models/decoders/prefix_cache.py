"""The cache of a language model whose rows share the prefix of their image.

Imported where transformers is known to be there.

Legend: B images, R rows, H heads, L embeddings of the prefix, T time, E width of a head.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

KeysValues = tuple[Tensor, Tensor]


class _Layer(DynamicLayer):
    """Keys and values of a layer: those of the images' prefix, then of the rows' own tokens.

    transformers (5.24) wants them as one tensor of the rows, which is copied each step anyway since a token
    is appended. So the prefix is copied to the rows then, and neither kept nor reordered for each of them.
    """

    def __init__(self, prefix: KeysValues, own: KeysValues) -> None:
        super().__init__()
        self.prefix, self.own, self.is_initialized = prefix, own, True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> KeysValues:
        """Append the rows' new tokens; returns all keys and values of the rows."""
        keys, values = self.own
        self.own = torch.cat([keys, key_states], 2), torch.cat([values, value_states], 2)
        return _behind(self.prefix[0], self.own[0]), _behind(self.prefix[1], self.own[1])

    def get_seq_length(self) -> int:
        """The tokens of a row, prefix included."""
        return self.prefix[0].shape[2] + self.own[0].shape[2]


def prefix_cache(prefix: Sequence[KeysValues], own: Sequence[KeysValues]) -> Cache:
    """The cache of rows behind their images' prefix.

    Args:
        prefix: keys and values (B, H, L, E) of each layer.
        own: likewise (R, H, T, E) of the rows' tokens; row r belongs to image r // (R / B).
    """
    return Cache(layers=[_Layer(*both) for both in zip(prefix, own, strict=True)])


def empty_cache() -> Cache:
    """The cache before the prefix."""
    return DynamicCache()


def keys_values(cache: Any) -> list[KeysValues]:
    """What the layers of an `empty_cache` hold by now."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def own_keys_values(cache: Any) -> list[KeysValues]:
    """What the layers of a `prefix_cache` hold of the rows' own tokens by now."""
    return [layer.own for layer in cache.layers]


def _behind(prefix_BHLE: Tensor, own_RHTE: Tensor) -> Tensor:
    B, H, L, E = prefix_BHLE.shape
    own = own_RHTE.unflatten(0, (B, -1))
    prefix = prefix_BHLE.unsqueeze(1).expand(B, own.shape[1], H, L, E)
    return torch.cat([prefix, own], 3).flatten(0, 1)
