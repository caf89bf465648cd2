"""The vocabulary projection. Legend: R rows of a search, D width, V vocabulary, W a padded row."""

import torch
import torch.nn.functional as F
from torch import Tensor

LINE = 16  # fp32 numbers in a cache line


def logits_of(hidden: Tensor, weight_VD: Tensor, bias_V: Tensor) -> Tensor:
    """Logits (..., V) of hidden (..., D).

    In a search on a CPU this product costs most. It is a fifth faster where the rows of its result begin
    with a cache line, which a vocabulary's size rarely gives them, so each ends with some unused space.
    """
    if not _searches_in_fp32(hidden):
        return F.linear(hidden, weight_VD, bias_V)
    *leading, D = hidden.shape
    V = len(weight_VD)
    padded_RW = hidden.new_empty(hidden.numel() // D, V + -V % LINE)
    torch.addmm(bias_V, hidden.reshape(-1, D), weight_VD.T, out=padded_RW[:, :V])
    return padded_RW[:, :V].view(*leading, V)


def _searches_in_fp32(hidden: Tensor) -> bool:
    return (
        hidden.device.type == "cpu"
        and hidden.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # nor exported: graphs have no `out=`
    )
