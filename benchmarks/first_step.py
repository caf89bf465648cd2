import sys
import time

import pytorch_lightning as pl

from benchmarks.memory import peak_megabytes


class FirstStep(pl.Callback):
    """Prints a line with the time of the first training step's end and the peak memory so far."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == 1:
            print(f"first step {time.time()} {peak_megabytes()}", file=sys.stderr)
