"""What tests put into real trials to see inside them."""

import fcntl
import json
from pathlib import Path

import optuna
import pytorch_lightning as pl


class Spy(pl.Callback):
    """Every rank writes down what it trained; no two processes may train one trial at a time."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def on_fit_start(self, trainer, pl_module):
        self.lock = open(self.folder / f"spy_{trainer.global_rank}.lock", "w")  # noqa: SIM115 (held to the end)
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def on_train_end(self, trainer, pl_module):
        seen = {
            "lr": trainer.optimizers[0].param_groups[0]["initial_lr"],
            "hidden_dim": pl_module.decoder.lstm.hidden_size,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
        }
        (self.folder / f"rank_{trainer.global_rank}.json").write_text(json.dumps(seen))


class Axe(optuna.pruners.BasePruner):
    """Prunes every trial after its second epoch."""

    def prune(self, study, trial):
        return trial.last_step == 2
