from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from autocaption.errors import UserError


def pretrained(
    make: Callable[[bool], nn.Module], name: str, wanted: bool, weights: str | None, head: str
) -> nn.Module:
    """A backbone with the weights that the configuration asks for, or none at all.

    Args:
        make: makes the backbone; its argument says whether to download its published weights.
        name: of the backbone, for messages.
        wanted: `model.encoder.pretrained`.
        weights: `model.encoder.weights`, a local state dict that takes the download's place.
        head: the prefix of the classifier's keys, which may be in the file and are left out.

    Raises:
        UserError: the weights can't be had; never a backbone with random weights in their place.
    """
    if not wanted:
        return make(False)
    if weights is None:
        try:
            return make(True)
        except Exception as error:  # each hub raises errors of its own for "no network"
            raise UserError(
                f"the pretrained weights of {name} could not be downloaded ({type(error).__name__}); "
                "give a local state dict with model.encoder.weights=PATH"
            ) from error
    backbone = make(False)
    path = Path(weights).expanduser()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = {key: value for key, value in state.items() if not key.startswith(head)}
        backbone.load_state_dict(state)
    except FileNotFoundError:
        raise UserError(f"file not found: model.encoder.weights={path}") from None
    except Exception as error:  # what is no pickle at all ends torch's reader in a dozen ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"model.encoder.weights={path} does not hold weights of {name}: {reason}") from None
    return backbone
