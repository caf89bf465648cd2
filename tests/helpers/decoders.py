"""What tests of decoders share.

Legend: B images, N captions an image, T time, P places, D width, V vocabulary.
"""

import torch

from autocaption.data.tokenizer import BOS, EOS, PAD

V, P, D = 12, 4, 6
DOUBLE = torch.float64


def ragged(*lengths_B):
    """tokens_BNT of random words; a length counts <bos> and words, 0 is an all-<pad> caption."""
    longest = max(length for lengths_N in lengths_B for length in lengths_N)
    tokens_BNT = torch.randint(EOS + 1, V, (len(lengths_B), len(lengths_B[0]), longest + 1))
    tokens_BNT[..., 0] = BOS
    return tokens_BNT.where(torch.arange(longest + 1) < torch.tensor(lengths_B)[..., None], PAD)


def stepped(decoder, state, tokens_RT):
    logits = []
    for tokens_R in tokens_RT.T:
        logits_RV, state = decoder.step(tokens_R, state)
        logits.append(logits_RV)
    return torch.stack(logits, 1), state


def hidden(decoder, memory_BPD, tokens_BNT):
    return decoder(memory_BPD, tokens_BNT).hidden_BNTD
