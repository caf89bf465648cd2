"""The transformer decoder against an independent implementation, caption by caption."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.decoders import DOUBLE, D, P, V, hidden, stepped

from autocaption.data.tokenizer import PAD
from autocaption.errors import UserError
from autocaption.models.decoders import transformer_layer
from autocaption.models.decoders.transformer import TransformerDecoder
from autocaption.search.state import expand


def small(**changes):
    settings = {"width": 16, "heads": 2, "layers": 2, "memory_layers": 0, "max_places": 64}
    dropouts = {"dropout": 0.0, "memory_dropout": 0.0, "word_dropout": 0.0}
    return TransformerDecoder(V, D, **{**settings, **dropouts, **changes})


def test_step_is_forward_with_memory_layers_and_without_word_dropout(memory_BPD, tokens_BNT):
    torch.manual_seed(0)
    decoder = small(memory_layers=2, word_dropout=0.5).to(DOUBLE).train()
    first, second = (hidden(decoder, memory_BPD, tokens_BNT) for _ in range(2))
    assert not torch.equal(first, second)
    decoder.eval()
    state = expand(decoder.init_state(memory_BPD), tokens_BNT.shape[1])
    logits_RTV, _ = stepped(decoder, state, tokens_BNT.flatten(0, 1))
    real_BNT = tokens_BNT != PAD
    found_MV = decoder.head(hidden(decoder, memory_BPD, tokens_BNT)[real_BNT])
    torch.testing.assert_close(found_MV, logits_RTV.view(*tokens_BNT.shape, V)[real_BNT])


def test_no_kernel_is_asked_that_plans_every_length_anew(monkeypatch):
    fused, asked = F.scaled_dot_product_attention, []

    def noting(*parts, **settings):
        asked.append(torch.backends.cuda.cudnn_sdp_enabled())
        return fused(*parts, **settings)

    monkeypatch.setattr(F, "scaled_dot_product_attention", noting)
    queries = torch.randn(1, 2, 40, 8)
    transformer_layer.attend(queries, queries, queries)
    assert asked == [False]
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_more_places_than_embeddings_is_a_user_s_error(tokens_BNT):
    decoder = small(max_places=P)
    with pytest.raises(UserError, match="max_places"):
        decoder(torch.randn(3, P + 1, D), tokens_BNT)


def attend(query_TD, memory_SD, project, out, heads, causal):
    """Multi-head attention (Vaswani et al. 2017, eq. 1); `project` gives queries, keys and values."""
    q_TD, k_SD, v_SD = project(query_TD, memory_SD)
    heads_TE = []
    for q, k, v in zip(*(part.chunk(heads, -1) for part in (q_TD, k_SD, v_SD)), strict=True):
        scores_TS = q @ k.T / math.sqrt(q.shape[-1])
        if causal:
            scores_TS = scores_TS.masked_fill(torch.ones_like(scores_TS).triu(1).bool(), -torch.inf)
        heads_TE.append(scores_TS.softmax(-1) @ v)
    return out(torch.cat(heads_TE, -1))


def by_hand(decoder, memory_PD, tokens_T, heads):
    """The logits after each token of one caption."""
    D = decoder.embed.embedding_dim

    def own(layer):
        return lambda x, _: layer.qkv(x).chunk(3, -1)

    def cross(layer):
        return lambda x, memory: (layer.query(x), *layer.memory_keys_values(memory).chunk(2, -1))

    def feed(block, x):
        return x + block.down(F.gelu(block.up(block.norm(x))))

    memory_PD = decoder.project(memory_PD) + decoder.places[: len(memory_PD)]
    for layer in decoder.memory_layers:
        x = layer.norm(memory_PD)
        memory_PD = feed(layer.feed_forward, memory_PD + attend(x, x, own(layer), layer.out, heads, False))
    memory_PD = decoder.memory_norm(memory_PD)
    rates = 10_000 ** (-torch.arange(0, D, 2).to(memory_PD) / D)
    angles = torch.arange(len(tokens_T)).to(memory_PD)[:, None] * rates
    x_TD = math.sqrt(D) * decoder.embed.weight[tokens_T] + torch.cat([angles.sin(), angles.cos()], -1)
    for layer in decoder.layers:
        x = layer.self_norm(x_TD)
        x_TD = x_TD + attend(x, x, own(layer), layer.self_out, heads, True)
        x = layer.cross_norm(x_TD)
        x_TD = x_TD + attend(x, memory_PD, cross(layer), layer.cross_out, heads, False)
        x_TD = feed(layer.feed_forward, x_TD)
    return decoder.norm(x_TD) @ decoder.embed.weight.T + decoder.bias


@torch.no_grad()
def test_logits_are_those_of_the_paper(memory_BPD, tokens_BNT):
    torch.manual_seed(0)
    decoder = small(memory_layers=1).to(DOUBLE).eval()
    for p in decoder.parameters():  # biases, scales and places that are not what they start as
        p.add_(0.1 * torch.randn_like(p))
    logits_BNTV = decoder.head(hidden(decoder, memory_BPD, tokens_BNT))
    for image, captions in enumerate(tokens_BNT):
        for number, tokens_T in enumerate(captions):
            real_T = tokens_T[tokens_T != PAD]
            expected_TV = by_hand(decoder, memory_BPD[image], real_T, heads=2)
            torch.testing.assert_close(logits_BNTV[image, number, : len(real_T)], expected_TV)


@torch.no_grad()
def test_a_fresh_decoder_tells_places_apart(memory_BPD, tokens_BNT):
    torch.manual_seed(0)
    decoder = small().to(DOUBLE).eval()
    real_BNT = tokens_BNT != PAD
    one, other = (hidden(decoder, m_BPD, tokens_BNT)[real_BNT] for m_BPD in (memory_BPD, memory_BPD.flip(1)))
    assert (one - other).abs().max() > 1e-4
