"""The transformer's beam search against Hugging Face's `generate` with a GPT-2 of the same size.

Both have the same vocabulary, width, heads and layers, attend to as many places, keep what they can of
earlier steps, and give captions of exactly as many words. Skipped where transformers isn't installed.

Legend: B images, T words, P places, D width.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autocaption.data.tokenizer import BOS, EOS, PAD, UNK
from autocaption.search.beam import BeamSearch
from benchmarks import transformer_beam
from benchmarks.generated import FEATURE_DIM, vocabulary
from benchmarks.limits import in_bf16, medians


def measure(
    *,
    batches: tuple[int, ...] = (32, 64),
    beam: int = 5,
    words: int = 13,
    places: int = 49,
    rounds: int = 7,
    **changes: int,
) -> dict[str, float]:
    try:
        import transformers  # noqa: F401
    except ModuleNotFoundError:
        print("hugging_face is skipped: pip install -e '.[bench]' for transformers", file=sys.stderr)
        return {}
    ours, search = transformer_beam.decoder(**changes), BeamSearch(beam, 0.0, words, min_length=words)
    theirs = gpt2_search(ours, beam, words)
    metrics: dict[str, float] = {}
    for images in batches:
        memory_BPD = torch.randn(images, places, FEATURE_DIM).relu()

        def find(memory_BPD: Tensor = memory_BPD) -> Tensor:
            return search(ours, memory_BPD).tokens_BKT[:, 0]

        tasks: Any = (find, in_bf16(find), lambda memory_BPD=memory_BPD: theirs(memory_BPD))
        for task in tasks:
            found = task()
            assert found.shape == (images, words), found.shape
            assert (found > EOS).all()
        fast, fast_bf16, slow = medians(tasks, rounds)
        metrics |= {
            f"{images} images: captions/s": images / fast,
            f"{images} images: captions/s of transformers": images / slow,
            f"{images} images: times transformers": slow / fast,
            f"{images} images: times transformers, ours in bf16": slow / fast_bf16,
        }
    return metrics


def gpt2_search(like: Any, beam: int, words: int) -> Callable[[Tensor], Tensor]:
    """Beam search with a GPT-2 of this decoder's sizes: memory_BPD to the best captions' tokens_BT."""
    from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, set_seed

    set_seed(0)
    special: Any = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    width, layers = like.project.out_features, like.layers
    config: Any = GPT2Config
    model = GPT2LMHeadModel(
        config(
            **{"vocab_size": len(vocabulary()), "n_positions": words + 1, "add_cross_attention": True},
            **{"n_embd": width, "n_layer": len(layers), "n_head": layers[0].heads, **special},
        )
    ).eval()
    project = nn.Linear(like.project.in_features, width)
    settings = GenerationConfig(
        **{"num_beams": beam, "min_new_tokens": words, "max_new_tokens": words, "use_cache": True},
        **{"suppress_tokens": [PAD, BOS, UNK], **special},
    )

    @torch.inference_mode()
    def find(memory_BPD: Tensor) -> Tensor:
        first_B1 = torch.full((len(memory_BPD), 1), BOS)
        tokens_BT = model.generate(
            first_B1,
            attention_mask=torch.ones_like(first_B1),
            encoder_hidden_states=project(memory_BPD),
            generation_config=settings,
        )
        return tokens_BT[:, 1:]

    return find


if __name__ == "__main__":
    print(measure())
