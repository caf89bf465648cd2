import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) whose masks are cheap on a CPU, too.

    torch draws one random number an element there, which takes longer than the product that it
    follows. Here eight elements share a draw of 64 bits, a byte each, so the share that is dropped
    is rounded to 256ths; what is kept is scaled by the rounded share. Off the CPU it is torch's.

    Args:
        p: the share of the elements set to zero in training, 0 <= p < 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout={p}: take a share from 0 to below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        dropped = min(round(self.p * 256), 255)
        draws = torch.empty(x.numel() // 8 + 1, dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * (kept * (256 / (256 - dropped))).to(x.dtype)

    def extra_repr(self) -> str:
        """The share, for print(model)."""
        return f"p={self.p}"
