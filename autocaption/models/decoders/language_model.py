"""A pretrained language model that captions.

Legend: B images, N captions an image, T time, P places, D width, L embeddings of the prefix, V vocabulary;
R rows (B x N, or those of a search).
"""

from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from autocaption.checks import choice, number, whole
from autocaption.data.packing import Layout
from autocaption.data.tokenizer import BOS, EOS, PAD, SPECIAL, UNK
from autocaption.errors import UserError
from autocaption.models.decoders import MOST_LAYERS
from autocaption.models.decoders.causal_lm import (
    Trainable,
    add_lora,
    architecture_of,
    cache_argument,
    load_causal_lm,
    special_ids,
)
from autocaption.models.decoders.mappers import MLPMapper, TransformerMapper
from autocaption.models.decoders.transformer_layer import KERNELS
from autocaption.models.dropout import Dropout, WordDropout
from autocaption.models.protocols import Decoded, State

OURS = {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK}
NEVER = 20.0  # what is taken from the logits of tokens that have a counterpart among ours


class LanguageModelDecoder(nn.Module):
    """A causal language model that reads the memory as a prefix (ClipCap, Mokady et al. 2021).

    A mapper makes embeddings of the places, behind which the model reads <bos> and the caption. Its
    vocabulary is that of its own tokenizer (`tokenizer=pretrained`) behind our four special tokens, whose
    embeddings are learnt; they begin as those of the model's own, or as the mean embedding. The model's own
    special tokens are never said.

    A frozen model stays in evaluation mode; otherwise its own dropout acts, as its configuration has it.

    Args:
        vocab_size: V, our special tokens and the tokenizer's.
        memory_dim: D of the memory.
        name: of a model of Hugging Face's hub, or a folder of one.
        architecture: the model's configuration as plain values, for random weights in place of those of
            `name`; a checkpoint carries it.
        trainable: of the language model: `none`, `lora` or `all`.
        prefix_length: L.
        mapper_layers: layers of a transformer over the places; 0 for an MLP of their mean.
        mapper_heads: its attention heads.
        max_places: the largest P, for a transformer.
        lora_rank: r of LoRA (`add_lora`).
        lora_alpha: r times its scale.
        lora_targets: names of the modules that it changes.
        dropout: of the mapper and LoRA, and of the embedded prefix and words.
        word_dropout: the share of input words replaced by <unk> in training.

    Attributes:
        architecture: the model's configuration as plain values.

    Raises:
        UserError: the model can't be had, has another vocabulary than the tokenizer, or doesn't work with a
            cache of keys and values.
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        name: str,
        architecture: Mapping[str, Any] | None,
        trainable: Trainable,
        prefix_length: int,
        mapper_layers: int,
        mapper_heads: int,
        max_places: int,
        lora_rank: int,
        lora_alpha: float,
        lora_targets: Any,
        dropout: float,
        word_dropout: float,
    ) -> None:
        super().__init__()
        choice("model.decoder.trainable", trainable, get_args(Trainable))
        sizes = (("prefix_length", prefix_length), ("mapper_heads", mapper_heads), ("max_places", max_places))
        for key, size in (*sizes, ("lora_rank", lora_rank)):
            whole(f"model.decoder.{key}", size, 1)
        whole("model.decoder.mapper_layers", mapper_layers, 0, MOST_LAYERS)
        number("model.decoder.lora_alpha", lora_alpha, above=0)
        number("model.decoder.dropout", dropout, at_least=0, below=1)
        self.dropout, self.word_dropout = Dropout(dropout), WordDropout(word_dropout)
        tokens = vocab_size - len(SPECIAL)
        model = load_causal_lm(name, architecture, tokens)
        self.architecture = architecture_of(model)
        self.tokens, self.cache_argument = tokens, cache_argument(model.base_model)
        self.longest = getattr(model.config, "max_position_embeddings", None)
        words, head = model.get_input_embeddings(), model.get_output_embeddings()
        self.special = nn.Embedding(len(SPECIAL), words.embedding_dim)
        self.special_head = nn.Linear(head.in_features, len(SPECIAL), bias=False)
        own = special_ids(model.config)
        _begin(words.weight, self.special.weight, own)
        _begin(head.weight, self.special_head.weight, own)
        self.own: Tensor
        self.register_buffer(
            "own", torch.tensor(sorted(set(own.values())), dtype=torch.long), persistent=False
        )
        if trainable == "lora":
            add_lora(model, lora_rank, lora_alpha, dropout, lora_targets)
        else:
            model.requires_grad_(trainable == "all")
        self.model: Any = model
        self.mapper: nn.Module
        given = memory_dim, words.embedding_dim, prefix_length
        if mapper_layers:
            self.mapper = TransformerMapper(*given, mapper_layers, mapper_heads, max_places, dropout)
        else:
            self.mapper = MLPMapper(*given, dropout)
        self.train()  # Lightning trains modules in the mode that they are in

    def train(self, mode: bool = True) -> "LanguageModelDecoder":
        """Set training mode, for what is trained only."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            self.model.eval()
        return self

    def forward(self, memory_BPD: Tensor, tokens_BNT: Tensor, layout: Layout | None = None) -> Decoded:
        """The hidden state after each input token; undefined at <pad>, which no token sees."""
        from autocaption.models.decoders.prefix_cache import prefix_cache

        state = self.init_state(memory_BPD)
        N = tokens_BNT.shape[1]
        own = [tuple(part.repeat_interleave(N, 0) for part in layer) for layer in state.rows]
        tokens_RT = self.word_dropout(tokens_BNT.flatten(0, 1))
        hidden_RTD = self._read(self._embed(tokens_RT), prefix_cache(state.images, own))
        return Decoded(hidden_RTD.unflatten(0, tokens_BNT.shape[:2]))

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden (..., D)."""
        words = self.model.get_output_embeddings()(hidden)[..., : self.tokens]
        logits = torch.cat([self.special_head(hidden), words], -1)
        taken = logits.new_full((), NEVER).expand(*logits.shape[:-1], len(self.own))
        return logits.index_add(-1, self.own + len(SPECIAL), taken, alpha=-1)

    def init_state(self, memory_BPD: Tensor) -> State:
        """The keys and values of the prefix, once an image, and none yet of the rows' own tokens."""
        from autocaption.models.decoders.prefix_cache import empty_cache, keys_values

        cache = empty_cache()
        self._read(self.dropout(self.mapper(memory_BPD)), cache)
        prefix = keys_values(cache)
        return State([tuple(part[:, :, :0] for part in layer) for layer in prefix], prefix)

    def step(self, tokens_R: Tensor, state: State) -> tuple[Tensor, State]:
        """logits_RV of the next word, and the state with these tokens."""
        from autocaption.models.decoders.prefix_cache import own_keys_values, prefix_cache

        cache = prefix_cache(state.images, state.rows)
        hidden_R1D = self._read(self._embed(tokens_R.unsqueeze(1)), cache)
        return self.head(hidden_R1D.squeeze(1)), State(own_keys_values(cache), state.images)

    def _read(self, x_RTD: Tensor, cache: Any) -> Tensor:
        """The hidden states after embedded tokens; the cache grows by them."""
        length = cache.get_seq_length() + x_RTD.shape[1]
        if self.longest is not None and length > self.longest:
            raise UserError(
                f"the language model reads {self.longest} tokens at most; lower model.decoder.prefix_length, "
                "tokenizer.max_length or search.max_length"
            )
        given = {"inputs_embeds": x_RTD, "use_cache": True, self.cache_argument: cache}
        with sdpa_kernel(KERNELS):
            return self.model.base_model(**given).last_hidden_state

    def _embed(self, tokens_RT: Tensor) -> Tensor:
        words = self.model.get_input_embeddings()((tokens_RT - len(SPECIAL)).clamp_min(0))
        special = self.special(tokens_RT.clamp_max(UNK))
        return self.dropout(special.where((tokens_RT <= UNK).unsqueeze(-1), words))


@torch.no_grad()
def _begin(theirs: Tensor, ours: Tensor, own: Mapping[str, int]) -> None:
    """Our special tokens begin as those of the model's own, or as the mean of all tokens."""
    ours.copy_(theirs.mean(0).expand_as(ours))
    for kind, i in own.items():
        ours[OURS[kind]] = theirs[i]
