"""State dicts, as they come from a file, into a module."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from autocaption.errors import first_line


def unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict under the names of the module itself, where it was saved from a wrapped one.

    DistributedDataParallel puts `module.` in front of every name. torch.compile puts `_orig_mod.` anywhere,
    since parts of a model can be compiled.
    """
    wrapped = bool(state) and all(str(name).startswith("module.") for name in state)
    names = {name: str(name).removeprefix("module.") if wrapped else str(name) for name in state}
    return {
        ".".join(part for part in plain.split(".") if part != "_orig_mod"): state[name]
        for name, plain in names.items()
    }


def load_weights(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Load a state dict, whose names may be those of a wrapped module.

    Raises:
        ValueError: names the first tensor that doesn't fit, with both shapes.
    """
    state = unwrapped(state)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(_first_misfit(module, state) or first_line(error)) from None


def _first_misfit(module: nn.Module, state: Mapping[str, Any]) -> str | None:
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in state:
            return f"{name} {_shape(tensor)} is missing"
        if not isinstance(state[name], Tensor) or state[name].shape != tensor.shape:
            return f"{name} is {_shape(state[name])}, and the model's is {_shape(tensor)}"
    surplus = next((name for name in state if name not in own), None)
    return surplus and f"{surplus} {_shape(state[surplus])} has no place in the model"


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return "x".join(map(str, value.shape)) or "a single number"
