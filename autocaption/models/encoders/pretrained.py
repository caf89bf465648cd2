"""The weights of a published network, from the net, a file, or none."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from timm.models import load_state_dict
from torch import nn

from autocaption.checks import as_path
from autocaption.errors import UserError, first_line
from autocaption.models.weights import load_weights, unwrapped


def pretrained(
    make: Callable[[bool], nn.Module],
    adapted: Callable[[dict[str, Any], nn.Module], Mapping[str, Any]],
    name: str,
    wanted: bool,
    weights: str | None,
) -> nn.Module:
    """A network with the weights that the configuration asks for.

    Args:
        make: makes the network; its argument says whether to download the published weights.
        adapted: a state dict as published to one of the network, without its classifier.
        name: the network's name, for messages.
        wanted: `model.encoder.pretrained`.
        weights: `model.encoder.weights`, a local state dict (.pth or .safetensors) instead of the download.

    Raises:
        UserError: the weights cannot be loaded; random weights never take their place.
    """

    def made(download: bool) -> nn.Module:
        try:
            return make(download)
        except AssertionError as error:  # of a size that is no multiple of its patches
            raise UserError(f"model.encoder.image_size doesn't suit {name}: {error}") from None

    if not wanted:
        if weights is not None:  # random ones would take their place
            raise UserError(
                f"model.encoder.weights={weights} is not read with model.encoder.pretrained=false; leave "
                "one of them out"
            )
        return made(False)
    if weights is None:
        try:
            return made(True)
        except UserError:
            raise
        except Exception as error:  # each hub has its own errors for "no network"
            raise UserError(
                f"the pretrained weights of {name} could not be downloaded ({type(error).__name__}); "
                "give a local state dict with model.encoder.weights=PATH"
            ) from error
    net = made(False)
    path = as_path("model.encoder.weights", weights)
    if not path.is_file():
        raise UserError(f"file not found: model.encoder.weights={path}")
    try:
        state = load_state_dict(str(path), weights_only=True)  # older versions of timm unpickle anything
        load_weights(net, adapted(unwrapped(state), net))
    except Exception as error:  # torch's reader fails in a dozen ways on a file that is no pickle
        reason = first_line(error)
        raise UserError(f"model.encoder.weights={path} does not hold weights of {name}: {reason}") from None
    return net


def unknown(library: str, name: str, names: Iterable[str]) -> UserError:
    """The error for a name that a library doesn't know, with the most similar ones that it knows."""
    near = difflib.get_close_matches(str(name), names, n=5, cutoff=0.5)
    advice = f"did you mean {' or '.join(near)}?" if near else "none of its names is similar"
    return UserError(f"model.encoder.name={name}: {library} has no such model; {advice}")
