"""Causal language models of Hugging Face's transformers (the extra `language_models`).

Legend: T time, D width, V vocabulary.
"""

import contextlib
import functools
import inspect
import json
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from autocaption.errors import UserError

Trainable = Literal["none", "lora", "all"]
# What a configuration says of a machine, a version, or a task that isn't ours.
NOT_ARCHITECTURE = ("_name_or_path", "architectures", "id2label", "label2id", "transformers_version")
LONGEST_REASON = 160  # characters; some errors list all models that there are
SHARE_OF_ROWS = 0.9  # embeddings are often padded to a round number, by 2 % at most of the models known


def load_causal_lm(name: str, architecture: Mapping[str, Any] | None, tokens: int) -> Any:
    """A causal language model, in single precision.

    Where tensors have no values (torch's device `meta`), weights are neither read nor compared.

    Args:
        name: a model of the hub, or a folder, whose weights are taken.
        architecture: a configuration, `model_type` and what that has, for random weights; None to take those
            of `name`. Without `vocab_size` it gets the tokenizer's.
        tokens: of the tokenizer.

    Raises:
        UserError: the extra isn't installed, there is no such model, or it has another vocabulary.
    """
    transformers = library()
    sizes_only = torch.get_default_device().type == "meta"
    with _in_one_line(name, architecture):
        if architecture is not None:
            settings = {"vocab_size": tokens, **architecture}
            config = transformers.AutoConfig.for_model(settings.pop("model_type", None), **settings)
        else:
            config = transformers.AutoConfig.from_pretrained(_place(name))
        if architecture is None and not sizes_only:
            model = _with_weights(transformers.AutoModelForCausalLM, name, config)
        else:
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if sizes_only:
        return model
    rows = model.get_input_embeddings().weight.shape[0]
    if not SHARE_OF_ROWS * rows <= tokens <= rows:
        raise UserError(
            f"the language model has {rows} tokens and the tokenizer {tokens}; take the model's own with "
            f"tokenizer=pretrained tokenizer.file={name}"
        )
    _require_parts(model)
    return model


def architecture_of(model: Any) -> dict[str, Any]:
    """The model's configuration as plain values, from which `load_causal_lm` makes it without any file."""
    config = json.loads(model.config.to_json_string(use_diff=False))
    kept = {key: value for key, value in config.items() if key not in NOT_ARCHITECTURE}
    return {**kept, "vocab_size": model.get_input_embeddings().weight.shape[0]}


def add_lora(model: nn.Module, rank: int, alpha: float, dropout: float, targets: Any) -> None:
    """Freeze a model and add trainable products of two matrices of a low rank to some of its own.

    LoRA (Hu et al. 2022), by Hugging Face's peft; the weights are those of the model to begin with.

    Args:
        model: a language model; changed.
        rank: r.
        alpha: the product is scaled by alpha / r.
        dropout: applied to the input of the product.
        targets: names of modules, or `all-linear`; None as peft chooses for this kind of model.

    Raises:
        UserError: the extra isn't installed, or there are no such modules.
    """
    library()
    import peft

    settings: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it noticed how GPT-2 stores matrices
            peft.inject_adapter_in_model(peft.LoraConfig(**settings, target_modules=targets), model)
    except ValueError as error:
        raise UserError(
            f"model.decoder.lora_targets={'null' if targets is None else targets}: {_reason(error)}"
        ) from None


def cache_argument(model: Any) -> str:
    """The argument that a model takes its cache by, which transformers 5.24 renames."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def special_ids(config: Any) -> dict[str, int]:
    """The ids of the model's own special tokens, as far as it has them."""
    found = {}
    for kind in ("bos", "eos", "pad", "unk"):
        ids = getattr(config, f"{kind}_token_id", None)
        first = ids[0] if isinstance(ids, list) and ids else ids
        if isinstance(first, int) and 0 <= first < config.vocab_size:
            found[kind] = first
    return found


@torch.no_grad()
def _require_parts(model: Any) -> None:
    """Find out whether a decoder may take the model apart, into embeddings, base with a cache, and head.

    Some models read both ways, have another kind of state, or scale their logits.

    Raises:
        UserError: it isn't.
    """
    from autocaption.models.decoders.prefix_cache import empty_cache, keys_values, prefix_cache

    training, base, cache = model.training, model.base_model, empty_cache()
    model.eval()
    try:
        x_1TD = model.get_input_embeddings()(torch.arange(4).clamp_max(model.config.vocab_size - 1)[None])
        expected_1TV = model(inputs_embeds=x_1TD, use_cache=False).logits
        read = functools.partial(base, use_cache=True)
        read(inputs_embeds=x_1TD[:, :2], **{cache_argument(base): cache})
        prefix = keys_values(cache)
        begun = prefix_cache(prefix, [(keys[:, :, :0], values[:, :, :0]) for keys, values in prefix])
        hidden_1TD = read(inputs_embeds=x_1TD[:, 2:], **{cache_argument(base): begun}).last_hidden_state
        found_1TV = model.get_output_embeddings()(hidden_1TD)
        scale = expected_1TV.abs().max()
        same = bool((found_1TV - expected_1TV[:, 2:]).abs().max() <= 1e-3 * scale)
    except Exception as error:  # of a model that knows nothing of such a cache
        raise UserError(f"{_unfit(model)}: {_reason(error)}") from error
    if not same:
        raise UserError(f"{_unfit(model)}: its logits after a prefix in a cache differ")
    model.train(training)


def _unfit(model: Any) -> str:
    return f"{type(model).__name__} can't be a decoder here"


def library() -> Any:
    """The package transformers.

    Raises:
        UserError: it, or peft, isn't installed.
    """
    try:
        import peft  # noqa: F401
        import transformers
    except ImportError as error:
        raise UserError(
            f"model/decoder=language_model needs the package {error.name}: "
            "pip install 'autocaption[language_models]'"
        ) from None
    return transformers


def _with_weights(auto: Any, name: str, config: Any) -> Any:
    model, found = auto.from_pretrained(
        _place(name), config=config, dtype=torch.float32, output_loading_info=True
    )
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"its weights lack {missing[0]}")  # random ones never take their place
    return model


def _place(name: str) -> str:
    """A folder's path, or a name of the hub."""
    folder = Path(str(name)).expanduser()
    if folder.is_dir():
        return str(folder)
    if not name or str(name).startswith(("/", "~", ".")):
        raise UserError(f"model.decoder.name={name}: no such folder; name one, or a model of the hub")
    return str(name)


@contextlib.contextmanager
def _in_one_line(name: str, architecture: Any) -> Iterator[None]:
    """Whatever goes wrong within as one line about the model; each library has errors of its own."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        key = f"model.decoder.name={name}" if architecture is None else "model.decoder.architecture"
        raise UserError(f"{key} gives no causal language model: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, LONGEST_REASON, placeholder=" ...")
