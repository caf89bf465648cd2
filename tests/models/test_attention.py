"""Show, Attend and Tell: its penalty, and that its two ways of computing a batch agree."""

import pytest
import torch
from helpers.decoders import DOUBLE, D, V

from autocaption.data.tokenizer import PAD
from autocaption.models.decoders import attention
from autocaption.models.decoders.attention import AttentionDecoder


def decoder_of(**changes):
    torch.manual_seed(0)
    settings = {"dropout": 0.0, "doubly_stochastic": 0.7, **changes}
    return AttentionDecoder(V, D, 8, 8, 8, **settings).to(DOUBLE)


@torch.no_grad()
def test_penalty_is_that_of_the_paper(memory_BPD, tokens_BNT):
    decoder = decoder_of().eval()
    expected = 0.0
    for caption in range(tokens_BNT.shape[1]):
        weights_BTP = decoder.attention(memory_BPD, tokens_BNT[:, caption])
        real_B = (tokens_BNT[:, caption] != PAD).any(1)
        expected += 0.7 * (1 - weights_BTP.sum(1)[real_B]).square().sum()
    penalty = decoder(memory_BPD, tokens_BNT).penalty
    torch.testing.assert_close(penalty, expected / (tokens_BNT != PAD).sum())


def outputs_and_gradients(decoder, memory_BPD, tokens_BNT):
    memory_BPD = memory_BPD.clone().requires_grad_()
    hidden_BNTD, penalty = decoder(memory_BPD, tokens_BNT)
    hidden_MD = hidden_BNTD[tokens_BNT != PAD]
    (hidden_MD.sin().sum() + 3 * penalty).backward()
    gradients = {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None}
    return hidden_MD, penalty, memory_BPD.grad, gradients


def test_autograd_gives_what_the_hand_written_recurrence_gives(memory_BPD, tokens_BNT, monkeypatch):
    expected = outputs_and_gradients(decoder_of(), memory_BPD, tokens_BNT)
    monkeypatch.setattr(attention, "HAND_WRITTEN_ON", ())  # as on a GPU
    called = []
    monkeypatch.setattr(attention, "attend", lambda *_: called.append(1))
    found = outputs_and_gradients(decoder_of(), memory_BPD, tokens_BNT)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)
    assert not called


@pytest.mark.slow
def test_compiled_step_gives_what_autograd_gives(memory_BPD, tokens_BNT, monkeypatch):
    monkeypatch.setattr(attention, "HAND_WRITTEN_ON", ())
    expected = outputs_and_gradients(decoder_of(), memory_BPD, tokens_BNT)
    monkeypatch.setattr(AttentionDecoder, "_advance", torch.compile(AttentionDecoder._advance))
    found = outputs_and_gradients(decoder_of(), memory_BPD, tokens_BNT)
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-6)
