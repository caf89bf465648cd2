"""Several encoders of the same pictures, side by side.

Legend: B images, P places, D width; C channels, H height, W width.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from autocaption.checks import choice
from autocaption.errors import UserError
from autocaption.models.protocols import Encoder

Along = Literal["places", "width"]


class ConcatEncoder(nn.Module):
    """The memories of several encoders as one.

    Each source gets pictures that are prepared as its own weights want them: they lie below one another in
    one tensor (`data/stacked.py`). What the protocol says of pictures is said of the first source here.

    Attributes:
        sources: the encoders by name.

    Args:
        sources: the encoders by name.
        along: `places` puts the places of a source after those of the one before. Each source has columns
            of its own, zeros elsewhere, so that a decoder's projection of the memory is one of its own for
            each source. `width` puts sources with the same places side by side, as pooled ones are.
        pooling: what `sources` are configured with.
        image_size: likewise.

    Raises:
        UserError: a source is such an encoder itself, or `along=width` sources have unequally many places.
    """

    def __init__(
        self, sources: Mapping[str, Encoder], along: Along, pooling: str, image_size: int | None
    ) -> None:
        super().__init__()
        if not sources:
            raise UserError("model.encoder.sources: give at least one encoder")
        for name, one in sources.items():
            if hasattr(one, "sources"):
                raise UserError(
                    f"model.encoder.sources.{name} is several encoders itself; put each beside the others "
                    "with +model/encoder@model.encoder.sources.NAME=..."
                )
        self.sources: Any = nn.ModuleDict({name: cast(nn.Module, one) for name, one in sources.items()})
        self.along, self.pooling = choice("model.encoder.along", along, get_args(Along)), pooling
        places = [_places(one) for one in self.sources.values()] if along == "width" else []
        if len(set(places)) > 1:
            counts = " and ".join(map(str, places))
            raise UserError(f"model.encoder.along=width: the sources give {counts} places; take places")
        first: Any = next(iter(self.sources.values()))
        self.image_size = first.image_size
        self.mean, self.std = first.mean, first.std
        self.fit, self.crop_share, self.interpolation = first.fit, first.crop_share, first.interpolation
        sides = {getattr(one, "grid_side", None) for one in self.sources.values()}
        # One grid after another is none, even where all places together could be a square.
        is_grid = len(sides) == 1 and (along == "width" or len(self.sources) == 1)
        self.grid_side: int | None = sides.pop() if is_grid else None
        self.out_dim: int = sum(cast(Any, one).out_dim for one in self.sources.values())

    @property
    def layers(self) -> dict[str, int]:
        """The layers of the trained parameters, counted from the last of each source."""
        every = {f"sources.{name}.": getattr(one, "layers", {}) for name, one in self.sources.items()}
        lasts = {prefix: max(layers.values(), default=0) for prefix, layers in every.items()}
        deepest = max(lasts.values())
        return {
            prefix + name: deepest - lasts[prefix] + layer
            for prefix, layers in every.items()
            for name, layer in layers.items()
        }

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """uint8 pictures below one another to memory_BPD."""
        memories, top = [], 0
        for one in self.sources.values():
            size = one.image_size
            memories.append(one(images_BCHW[..., top : top + size, :size]))
            top += size
        if self.along == "places":
            return torch.cat(self._in_own_columns(memories), 1)
        return torch.cat(memories, 2)

    def _in_own_columns(self, memories: list[Tensor]) -> list[Tensor]:
        padded, left = [], 0
        for memory_BPD in memories:
            width = memory_BPD.shape[2]
            padded.append(F.pad(memory_BPD, (left, self.out_dim - left - width)))
            left += width
        return padded

    def extra_repr(self) -> str:
        """What the modules don't show of the output."""
        return f"along={self.along}"


def _places(encoder: Any) -> int:
    """P of an encoder's memory, from shapes alone, which costs nothing."""
    tensors = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
    shapes = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    # Two, since a BatchNorm in training takes no single one.
    images_BCHW = torch.empty(2, 3, *[encoder.image_size] * 2, dtype=torch.uint8, device="meta")
    with torch.no_grad():
        return functional_call(encoder, shapes, (images_BCHW,)).shape[1]
