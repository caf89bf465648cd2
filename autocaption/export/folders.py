"""What people hand on: folders with a model, made from a checkpoint."""

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from PIL import Image

from autocaption import build
from autocaption.data.stacked import Stacked
from autocaption.data.subwords import SubwordTokenizer
from autocaption.data.tokenizer import Tokenizer, words
from autocaption.errors import UserError
from autocaption.export import graphs
from autocaption.export.card import new_files, write_card
from autocaption.files import write_json
from autocaption.models.captioner import RECIPE
from autocaption.runs import checkpoint as checkpoints
from autocaption.runs import exported

log = logging.getLogger(__name__)

SAFETENSORS_USAGE = """    import autocaption

    model = autocaption.load("FOLDER")  # this one
    print(model.caption("picture.jpg")[0].text)
"""
ONNX_USAGE = """    pip install numpy pillow onnxruntime{more}
    python caption.py picture.jpg
"""
RUNNER = "caption.py"
# Of a search in the runner, with what they are where the checkpoint's search has no such key.
SEARCH = {
    "beam_size": 1,
    "length_penalty": 0.0,
    "max_length": 20,
    "allow_unk": False,
    "min_length": 0,
    "no_repeat_ngram": 0,
}


def export_safetensors(checkpoint: Path, folder: Path) -> None:
    """Write model.safetensors, config.json and a model card; `autocaption.load(folder)` reads them.

    Args:
        checkpoint: a file of a run's checkpoints/.
        folder: where to.

    Raises:
        UserError: the checkpoint cannot be read, or the folder not written to.
    """
    saved = checkpoints.load(checkpoint)
    with new_files(folder, own=(exported.WEIGHTS,), others=(RUNNER, *graphs.FILES)) as aside:
        exported.write(saved, aside)
        write_card(saved, aside, SAFETENSORS_USAGE)


def export_onnx(checkpoint: Path, folder: Path, int8: bool = False) -> None:
    """Write ONNX graphs, config.json, a model card, and a runner that needs neither torch nor autocaption.

    Args:
        checkpoint: a file of a run's checkpoints/.
        folder: where to.
        int8: whether the weights of matrix products become 8-bit integers.

    Raises:
        UserError: the checkpoint cannot be read, has subwords under a rule of its own, or its model has no
            counterpart in ONNX.
    """
    saved = checkpoints.load(checkpoint)
    vocabulary = saved[RECIPE]["vocabulary"]
    captioner, transform, _ = build.for_pictures(saved)
    _require_known_rule(captioner.tokenizer)
    graphs.require_extra()
    view_CHW = transform(Image.new("RGB", (64, 64)), seed=0)
    images_BCHW = torch.randint(256, (2, *view_CHW.shape), dtype=torch.uint8)
    search: Any = OmegaConf.to_container(build.config_of(saved).search, resolve=True)
    if (name := search["_target_"].rpartition(".")[2]) not in ("BeamSearch", "GreedySearch"):
        log.warning("%s searches by beams, not by the checkpoint's %s", RUNNER, name)
    squares = transform.transforms if isinstance(transform, Stacked) else (transform,)
    settings = {
        "pictures": [dataclasses.asdict(one) for one in squares],
        "vocabulary": vocabulary,
        "search": {key: search.get(key, value) for key, value in SEARCH.items()},
    }
    usage = ONNX_USAGE.format(more=" tokenizers" if isinstance(vocabulary, str) else "")
    with new_files(folder, own=(RUNNER, *graphs.FILES), others=(exported.WEIGHTS,)) as aside:
        graphs.write_graphs(captioner, images_BCHW, aside)
        if int8:
            graphs.quantize(aside)
        write_json(aside / exported.CONFIG, settings)
        shutil.copyfile(Path(__file__).with_name("onnx_caption.py"), aside / RUNNER)
        write_card(saved, aside, usage)


def _require_known_rule(tokenizer: Tokenizer) -> None:
    if isinstance(tokenizer, SubwordTokenizer) and tokenizer.rule is not words:
        raise UserError(
            f"{RUNNER} splits what subwords spell by the rule `words`, and this model has another "
            "tokenizer.rule; take --format safetensors"
        )
