"""What tests of decoders share.

Legend: B images, N captions an image, T time, P places, D width, V vocabulary.
"""

import importlib.util

import pytest
import torch

from autocaption.data.tokenizer import BOS, EOS, PAD

V, P, D = 12, 4, 6
DOUBLE = torch.float64

# Language models of no size, whose positions and caches are of different kinds.
DROPOUTS = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
GPT2 = {
    **{"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    **{"bos_token_id": 0, "eos_token_id": 0},
    **DROPOUTS,
}
LLAMA = {
    **{"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "intermediate_size": 32, "bos_token_id": 0, "eos_token_id": 1},
}
OPT = {
    **{"model_type": "opt", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"ffn_dim": 32, "word_embed_proj_dim": 8, "max_position_embeddings": 64, "dropout": 0.0},
    **{"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2},
}
# What makes a decoder of conf/ that has such keys small.
LANGUAGE_MODEL = {"architecture": GPT2, "trainable": "all", "prefix_length": 3}
EXTRAS = {"language_model": "peft"}


def has_extra(decoder):
    """Whether a decoder's packages are installed."""
    return decoder not in EXTRAS or importlib.util.find_spec(EXTRAS[decoder]) is not None


def require_extra(decoder):
    """Skip the test where they aren't."""
    if not has_extra(decoder):
        pytest.skip(f"{EXTRAS[decoder]} isn't installed")


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
