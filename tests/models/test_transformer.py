import pytest
import torch
from helpers.decoders import DOUBLE, D, P, V, hidden, stepped

from autocaption.data.tokenizer import PAD
from autocaption.errors import UserError
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


def test_more_places_than_embeddings_is_a_user_s_error(tokens_BNT):
    decoder = small(max_places=P)
    with pytest.raises(UserError, match="max_places"):
        decoder(torch.randn(3, P + 1, D), tokens_BNT)
