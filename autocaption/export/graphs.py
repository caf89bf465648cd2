"""Encoder and decoder as ONNX graphs.

Three graphs, for a picture at a time: `encoder` (images to memory), `start` (memory to the state before the
first word) and `step` (tokens and state to logits and state). The state's tensors are named row_0, row_1, ...
where each beam has its own, and image_0, ... where a picture's beams share them; `step` gives those that it
changes, as NAME_after.

Legend: B images, K beams, P places, D width, V vocabulary; C channels, H height, W width.
"""

import contextlib
import functools
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils._pytree import (
    TreeSpec,
    tree_flatten,
    tree_unflatten,
)  # private; torch 2.15 has no public one

from autocaption.data.tokenizer import BOS, UNK
from autocaption.errors import UserError
from autocaption.features.folding import folded
from autocaption.files import write_whole
from autocaption.models.captioner import Captioner
from autocaption.models.protocols import Decoder, State
from autocaption.search.state import expand

FILES = ("encoder.onnx", "start.onnx", "step.onnx")


def write_graphs(captioner: Captioner, images_BCHW: Tensor, folder: Path) -> None:
    """Write encoder.onnx, start.onnx and step.onnx.

    Args:
        captioner: the model.
        images_BCHW: two or more of what its encoder takes, whatever they show.
        folder: where to.

    Raises:
        UserError: a part of the model has no counterpart in ONNX.
    """
    network: Any = captioner.encoder
    decoder = captioner.decoder
    encoder: Any = folded(network, images_BCHW)  # which halves an EfficientNet's time in ONNX Runtime
    with torch.no_grad(), _quiet():
        memory_1PD = encoder(images_BCHW)[:1]
        _write(*(encoder, (images_BCHW,), ({0: Dim.AUTO},), ["images"], ["memory"]), folder / "encoder.onnx")
        state, later = _state(decoder, memory_1PD, 3, 1), _state(decoder, memory_1PD, 5, 2)
        (leaves, spec), (others, _) = (tree_flatten(tuple(one)) for one in (state, later))
        names = state_names(state)
        _write(Start(decoder), (memory_1PD,), ({},), ["memory"], names, folder / "start.onnx")
        # The sizes that grow with the beams or the words are those that differ between two states.
        varying = tuple(
            {i: Dim.AUTO for i in range(one.ndim) if one.shape[i] != other.shape[i]}
            for one, other in zip(leaves, others, strict=True)
        )
        tokens_K = _words(3)
        after, _ = tree_flatten(tuple(decoder.step(tokens_K, state)[1]))
        changed = [i for i, (old, new) in enumerate(zip(leaves, after, strict=True)) if new is not old]
        step = Step(decoder, spec, changed)
        outputs = ["logits", *(f"{names[i]}_after" for i in changed)]
        dynamic = ({0: Dim.AUTO}, varying)
        _write(step, (tokens_K, tuple(leaves)), dynamic, ["tokens", *names], outputs, folder / "step.onnx")


def quantize(folder: Path) -> None:
    """Replace the weights of matrix products by 8-bit integers, whose inputs are scaled as they come.

    Convolutions stay, since ONNX Runtime's integer ones are slower on most CPUs.
    """
    for name in FILES:
        write_whole(file := folder / name, functools.partial(_quantized, file))


def _quantized(file: Path, aside: Path) -> None:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    onnxruntime.set_default_logger_severity(3)  # it warns of constants that it cannot fold
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        folded = Path(folder) / file.name  # only constants are quantised, not transposed ones
        quant_pre_process(str(file), str(folded), skip_symbolic_shape=True)
        quantize_dynamic(folded, aside, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)


def require_extra() -> None:
    """Find out whether the packages are here.

    Raises:
        UserError: they aren't.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError("export to ONNX needs `pip install 'autocaption[export]'`") from None


class Start(nn.Module):
    """The tensors of the state before the first word."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, memory_1PD: Tensor) -> tuple[Tensor, ...]:
        """One list of them, as `state_names` names them."""
        return _apart(tree_flatten(tuple(self.decoder.init_state(memory_1PD)))[0])


class Step(nn.Module):
    """A step with its state as a list of tensors.

    Args:
        decoder: the decoder.
        spec: how the list becomes a State.
        kept: places in the list that are returned.
    """

    def __init__(self, decoder: Decoder, spec: TreeSpec, kept: Sequence[int]) -> None:
        super().__init__()
        self.decoder, self.spec, self.kept = decoder, spec, list(kept)

    def forward(self, tokens_K: Tensor, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """logits_KV, then the state's kept tensors."""
        logits_KV, after = self.decoder.step(tokens_K, State(*tree_unflatten(list(leaves), self.spec)))
        changed = tree_flatten(tuple(after))[0]
        return (logits_KV, *_apart([changed[i] for i in self.kept]))


def _apart(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Copies: a graph has one name only for a tensor that is several of its outputs."""
    return tuple(tensor.clone() for tensor in tensors)


def _state(decoder: Decoder, memory_1PD: Tensor, beams: int, words: int) -> State:
    _, state = decoder.step(torch.tensor([BOS]), decoder.init_state(memory_1PD))
    state = expand(state, beams)
    for _ in range(words):
        _, state = decoder.step(_words(beams), state)
    return state


def _words(beams: int) -> Tensor:
    return torch.full((beams,), UNK)


def state_names(state: State) -> list[str]:
    """The names of a state's tensors, in the order of their list."""
    return [
        f"{kind}_{i}"
        for kind, part in zip(("row", "image"), state, strict=True)
        for i in range(len(tree_flatten(part)[0]))
    ]


def _write(
    module: Any, inputs: tuple, varying: tuple, input_names: list[str], output_names: list[str], file: Path
) -> None:
    try:
        # Strict, since otherwise `len(tensor)` is a constant of the graph.
        program = torch.export.export(module.eval(), inputs, dynamic_shapes=varying, strict=True)
        settings: Any = {"external_data": False, "optimize": False, "verbose": False, "dynamo": True}
        names: Any = {"input_names": input_names, "output_names": output_names}
        write_whole(file, lambda aside: torch.onnx.export(program, f=str(aside), **names, **settings))
    except (OSError, UserError):
        raise
    except Exception as error:  # torch's exporter fails in many ways on what it doesn't know
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"{file.name} cannot be made of this model: {type(error).__name__}: {reason}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes to their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
