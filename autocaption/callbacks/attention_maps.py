"""Where an attending decoder looks for each word that it says.

Legend: B images, T time, P places.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from autocaption.callbacks.predictions import from_all_ranks
from autocaption.data.tokenizer import BOS, EOS, PAD
from autocaption.models.protocols import Attentive
from autocaption.report.heat_maps import HeatMaps, by_word, grid_side, heat_maps, write_heat_maps


class AttentionMaps(pl.Callback):
    """Writes attention.json: a heat map for each word of a test's captions, which the report shows.

    A decoder that doesn't attend, or not to a square grid of places, leaves no file.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._maps: dict[str, HeatMaps] = {}

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Ask the decoder about a batch's captions."""
        decoder = pl_module.decoder
        if not isinstance(decoder, Attentive) or not outputs.ids or outputs.tokens_BT.shape[1] == 0:
            return  # a rank without images has an empty batch
        if grid_side(pl_module.encoder, outputs.memory.shape[1]) is None:
            return
        memory_BPD = outputs.memory.to(next(decoder.parameters()).dtype)  # type: ignore[attr-defined]
        weights_BTP = decoder.attention(memory_BPD, _inputs(outputs.tokens_BT)).float().cpu().numpy()
        for id, tokens, weights_TP in zip(outputs.ids, outputs.tokens_BT.tolist(), weights_BTP, strict=True):
            said = [token for token in tokens if token not in (EOS, PAD)]
            _, weights_WP = by_word(weights_TP, said, pl_module.tokenizer)
            self._maps[str(id)] = heat_maps(weights_WP)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file."""
        ranks, self._maps = from_all_ranks(self._maps), {}
        maps = {id: one for rank in ranks for id, one in rank.items()}
        if trainer.is_global_zero and maps:
            write_heat_maps(self.folder / "attention.json", maps)


def _inputs(tokens_BT: Tensor) -> Tensor:
    """What a decoder was given to say these tokens: <bos> and all but the last; <eos> is no input."""
    bos_B1 = torch.full_like(tokens_BT[:, :1], BOS)
    said_BT = torch.cat([bos_B1, tokens_BT[:, :-1]], 1)
    return said_BT.masked_fill(said_BT == EOS, PAD)
