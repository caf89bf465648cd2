"""Where an attending decoder looks for each word that it says.

Legend: B images, T time, P places, W words.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from autocaption.callbacks.predictions import from_all_ranks
from autocaption.data.tokenizer import until_end
from autocaption.models.protocols import Attentive
from autocaption.models.word_maps import grid_side, word_weights
from autocaption.report.heat_maps import HeatMaps, heat_maps, write_heat_maps


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
        if not outputs.ids or not isinstance(decoder, Attentive) or grid_side(pl_module.encoder) is None:
            return  # a rank without images has an empty batch
        said = [until_end(tokens) for tokens in outputs.tokens_BT.tolist()]
        found = word_weights(decoder, outputs.memory, said, pl_module.tokenizer)
        for id, (_, weights_WP) in zip(outputs.ids, found, strict=True):
            maps = heat_maps(weights_WP)
            if maps is not None:
                self._maps[str(id)] = maps

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file."""
        ranks, self._maps = from_all_ranks(self._maps), {}
        maps = {id: one for rank in ranks for id, one in rank.items()}
        if trainer.is_global_zero and maps:
            write_heat_maps(self.folder / "attention.json", maps)
