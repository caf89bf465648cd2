import torch
from helpers.decoders import DOUBLE, D, V

from autocaption.data.tokenizer import PAD
from autocaption.models.decoders.attention import AttentionDecoder


@torch.no_grad()
def test_the_penalty_of_attention_is_that_of_the_paper(memory_BPD, tokens_BNT):
    torch.manual_seed(0)
    decoder = AttentionDecoder(V, D, 8, 8, 8, dropout=0.0, doubly_stochastic=0.7).to(DOUBLE).eval()
    expected = 0.0
    for caption in range(tokens_BNT.shape[1]):
        weights_BTP = decoder.attention(memory_BPD, tokens_BNT[:, caption])
        said_B = (tokens_BNT[:, caption] != PAD).any(1)
        expected += 0.7 * (1 - weights_BTP.sum(1)[said_B]).square().sum()
    penalty = decoder(memory_BPD, tokens_BNT).penalty
    torch.testing.assert_close(penalty, expected / (tokens_BNT != PAD).sum())
