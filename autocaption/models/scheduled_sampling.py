"""Scheduled sampling.

Legend: B images, N captions an image, T time, P places, M real tokens, V vocabulary.
"""

import torch
from torch import Tensor

from autocaption.data.packing import Layout
from autocaption.data.tokenizer import PAD, UNK
from autocaption.models.protocols import Decoder


@torch.no_grad()
def scheduled_inputs(
    decoder: Decoder, memory_BPD: Tensor, inputs_BNT: Tensor, share: float, layout: Layout | None = None
) -> Tensor:
    """Input tokens, a share of them replaced by samples from the model itself.

    Scheduled sampling (Bengio et al. 2015) in two passes, so that it works for parallel decoders too
    (Mihaylova & Martins 2019): the first, teacher-forced, predicts the word at each position.

    Args:
        decoder: the decoder as it is trained, dropout included.
        memory_BPD: memory of the images.
        inputs_BNT: tokens of the captions, <bos> first; <bos> is never replaced.
        share: the probability of replacing a token.
        layout: where the real tokens lie; None to find out, which waits for the device.
    """
    if share == 0:
        return inputs_BNT
    layout = layout or Layout.of(inputs_BNT)
    real = layout.image_major
    logits_MV = decoder.head(real.pack(decoder(memory_BPD, inputs_BNT, layout).hidden_BNTD)).float()
    logits_MV[:, :UNK] = -torch.inf  # no <pad>, <bos> or <eos>: a caption keeps its true length
    p_MV = logits_MV.softmax(-1)
    # As torch.multinomial draws, which on a GPU waits to see whether they are probabilities.
    sampled_M1 = (p_MV / torch.empty_like(p_MV).exponential_()).argmax(-1, keepdim=True)
    sampled_BNT = real.unpack(sampled_M1).squeeze(-1)
    drawn_BNT = torch.rand(inputs_BNT.shape, device=inputs_BNT.device) < share
    drawn_BNT[..., 0] = False
    return sampled_BNT.roll(1, dims=-1).where(drawn_BNT & (inputs_BNT != PAD), inputs_BNT)
