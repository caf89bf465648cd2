"""The Meshed-Memory Transformer against the equations of its paper, with a loop for all that is one."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.decoders import DOUBLE, D, V, hidden

from autocaption.data.tokenizer import PAD
from autocaption.errors import UserError
from autocaption.models.decoders.transformer import TransformerDecoder

HEADS, WIDTH = 2, 8
E = WIDTH // HEADS


def m2(**changes):
    settings = {"width": WIDTH, "heads": HEADS, "layers": 2, "max_places": 64, "dropout": 0.0}
    memory = {"memory_dropout": 0.0, "memory_layers": 3, "memory_slots": 5, "memory_levels": 3}
    torch.manual_seed(0)
    decoder = TransformerDecoder(V, D, **{**settings, **memory, "word_dropout": 0.0, **changes}).to(DOUBLE)
    with torch.no_grad():
        for p in decoder.parameters():  # biases, scales and gates that are not what they start as
            p.add_(0.3 * torch.randn_like(p))
    return decoder.eval()


def attention(queries, keys, values):
    """Eq. 1, head by head and query by query, over lists of vectors."""
    found = []
    for query in queries:
        heads = []
        for h in range(HEADS):
            own = slice(h * E, (h + 1) * E)
            scores = torch.stack([query[own] @ key[own] / math.sqrt(E) for key in keys])
            shares = scores.exp() / scores.exp().sum()
            heads.append(sum(share * value[own] for share, value in zip(shares, values, strict=True)))
        found.append(torch.cat(heads))
    return found


def feed(block, x):
    return x + block.down(F.gelu(block.up(block.norm(x))))


def levels_of(decoder, memory_PD):
    """What each encoder layer gives (eq. 2 to 4), norms before the blocks."""
    x, levels = [decoder.project(m) + place for m, place in zip(memory_PD, decoder.places, strict=False)], []
    for layer in decoder.memory_layers:
        projected = [layer.qkv(layer.norm(one)) for one in x]
        queries, keys, values = zip(*(one.split(WIDTH) for one in projected), strict=True)
        slots = [slot.split(WIDTH) for slot in layer.slots]
        assert len(slots) == 5
        keys, values = [*keys, *(key for key, _ in slots)], [*values, *(value for _, value in slots)]
        seen = attention(queries, keys, values)
        x = [feed(layer.feed_forward, one + layer.out(new)) for one, new in zip(x, seen, strict=True)]
        levels.append([decoder.memory_norm(one) for one in x])
    return levels


def logits_of(decoder, memory_PD, tokens_T):
    """The logits after each token of one caption (eq. 5 to 7), word by word."""
    levels, positions = levels_of(decoder, memory_PD), torch.arange(len(tokens_T), dtype=DOUBLE)
    angles = positions[:, None] * 10_000 ** (-torch.arange(0, WIDTH, 2, dtype=DOUBLE) / WIDTH)
    x = [*(math.sqrt(WIDTH) * decoder.embed.weight[tokens_T] + torch.cat([angles.sin(), angles.cos()], 1))]
    for layer in decoder.layers:
        projected = [layer.qkv(layer.self_norm(one)) for one in x]
        queries, keys, values = zip(*(one.split(WIDTH) for one in projected), strict=True)
        for t in range(len(x)):
            (own,) = attention(queries[t : t + 1], keys[: t + 1], values[: t + 1])
            x[t] = x[t] + layer.self_out(own)
            y = layer.cross_norm(x[t])
            for places, weight, bias in zip(
                levels, layer.mesh.weight, layer.mesh.bias.view(3, WIDTH), strict=True
            ):
                pairs = [layer.memory_keys_values(place).split(WIDTH) for place in places]
                (seen,) = attention([layer.query(y)], *zip(*pairs, strict=True))
                seen = layer.cross_out(seen)
                gates = 1 / (1 + (-(torch.cat([y, seen]) @ weight + bias)).exp())
                x[t] = x[t] + gates * seen
            x[t] = feed(layer.feed_forward, x[t])
    return torch.stack([decoder.norm(one) @ decoder.embed.weight.T + decoder.bias for one in x])


@torch.no_grad()
def test_logits_are_those_of_the_paper(memory_BPD, tokens_BNT):
    decoder = m2()
    logits_BNTV = decoder.head(hidden(decoder, memory_BPD, tokens_BNT))
    for image, caption in ((0, 0), (1, 1), (1, 2)):
        real_T = tokens_BNT[image, caption][tokens_BNT[image, caption] != PAD]
        expected_TV = logits_of(decoder, memory_BPD[image], real_T)
        torch.testing.assert_close(logits_BNTV[image, caption, : len(real_T)], expected_TV)


@torch.no_grad()
def test_levels_are_the_last_layers(memory_BPD, tokens_BNT):
    one, all_of_them = m2(memory_levels=1), m2()
    shared = {name: value for name, value in all_of_them.state_dict().items() if "mesh" not in name}
    one.load_state_dict(shared)
    for layer in all_of_them.layers:  # gates that are open for the last level alone
        layer.mesh.weight.zero_()
        layer.mesh.bias.view(3, WIDTH).copy_(torch.tensor([-1e3, -1e3, 1e3])[:, None].expand(3, WIDTH))
    expected = hidden(one, memory_BPD, tokens_BNT)
    torch.testing.assert_close(hidden(all_of_them, memory_BPD, tokens_BNT), expected)


def test_a_fresh_model_s_gates_are_half_open_and_not_decayed():
    decoder = TransformerDecoder(V, D, 64, 2, 1, 2, 9, 0.0, 0.0, 0.0, memory_slots=3, memory_levels=2)
    mesh = decoder.layers[0].mesh
    y_MD, seen_MLD = torch.randn(100, 64), torch.randn(100, 2, 64)
    shares = mesh(y_MD, seen_MLD) / seen_MLD.sum(1)
    assert shares.median().item() == pytest.approx(0.5, abs=0.05)
    assert mesh.bias.ndim == 1  # as optim.py tells vectors from matrices


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_levels": 4}, "memory_levels=4: take a whole number, from 1 to 3"),
        ({"memory_layers": 0, "memory_levels": 1}, "memory_slots=5 belong to encoder layers"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        m2(**changes)
