"""What encoders and decoders promise; a class needs no base but torch's Module.

Legend: B images, N captions an image, T time, P places, D width, V vocabulary; R rows, which are B
images or B x K beams.
"""

from typing import Any, Protocol

from torch import Tensor


class Encoder(Protocol):
    """Pictures to memory.

    Attributes:
        out_dim: D of the memory.
        image_size: pixels of a side of the pictures.
    """

    out_dim: int
    image_size: int

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """uint8 RGB to memory_BPD; P = 1 for a pooled vector."""
        ...


class Decoder(Protocol):
    """Memory to words, in parallel for training and word by word for search.

    `step` repeated gives what `head(forward)` gives.
    """

    def __call__(self, memory_BPD: Tensor, tokens_BNT: Tensor) -> Tensor:
        """hidden_BNTD after each input token (the first is <bos>); undefined at <pad>."""
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden (..., D): apart, so that it is done for real tokens only."""
        ...

    def init_state(self, memory_BPD: Tensor) -> Any:
        """The state before <bos>: a pytree of batch-first tensors, which search can reorder."""
        ...

    def step(self, tokens_R: Tensor, state: Any) -> tuple[Tensor, Any]:
        """logits_RV of the next word after these tokens, and the state with them."""
        ...
