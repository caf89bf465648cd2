"""A callback that records what each rank of a real trial trained."""

import fcntl
import json
from pathlib import Path

import pytorch_lightning as pl


class Spy(pl.Callback):
    """Writes rank_<rank>.json; fails if two processes train the same trial at once."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def on_fit_start(self, trainer, pl_module):
        self.lock = open(self.folder / f"spy_{trainer.global_rank}.lock", "w")  # noqa: SIM115 (held until the process ends)
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def on_train_end(self, trainer, pl_module):
        trained = {
            "lr": trainer.optimizers[0].param_groups[0]["initial_lr"],
            "hidden_dim": pl_module.decoder.lstm.hidden_size,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
        }
        (self.folder / f"rank_{trainer.global_rank}.json").write_text(json.dumps(trained))
