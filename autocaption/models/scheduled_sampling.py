"""Legend: B images, N captions an image, T time, P places, M real tokens, V vocabulary."""

import torch
from torch import Tensor

from autocaption.data.tokenizer import BOS, EOS, PAD
from autocaption.models.protocols import Decoder


@torch.no_grad()
def scheduled_inputs(decoder: Decoder, memory_BPD: Tensor, inputs_BNT: Tensor, share: float) -> Tensor:
    """Input words of which a share is drawn from what the model itself would have said there.

    Scheduled sampling (Bengio et al. 2015) in two passes, so that it works for parallel decoders too
    (Mihaylova & Martins 2019): the first, teacher-forced, tells what may stand at each place.

    Args:
        decoder: as it is trained, dropout included.
        memory_BPD: of the images.
        inputs_BNT: the words of the captions, <bos> first; it stays.
        share: the probability with which a word is replaced.
    """
    if share == 0:
        return inputs_BNT
    real_BNT = inputs_BNT != PAD
    logits_MV = decoder.head(decoder(memory_BPD, inputs_BNT).hidden_BNTD[real_BNT]).float()
    logits_MV[:, [PAD, BOS, EOS]] = -torch.inf  # a caption goes on for as long as the true one
    said_BNT = torch.zeros_like(inputs_BNT)
    said_BNT[real_BNT] = torch.multinomial(logits_MV.softmax(-1), 1).squeeze(1)
    drawn_BNT = torch.rand(inputs_BNT.shape, device=inputs_BNT.device) < share
    drawn_BNT[..., 0] = False
    return said_BNT.roll(1, dims=-1).where(drawn_BNT & real_BNT, inputs_BNT)
