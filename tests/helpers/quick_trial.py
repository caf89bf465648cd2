"""A training script without training, for sweeps through the real command, sweeper, storage and pruner.

The reported metric rises over the epochs to `height` of the searched values, so a test knows each trial's
result. The script saves checkpoints and notes in notes.txt what it did. The environment variable QUICK_FAULTS
is JSON of what shall go wrong, by trial number: "error", "die EPOCH" (once), "hang EPOCH", or once
"signal N EPOCH", sent to the parent, such as a launcher's job. Trials that are on one GPU at a time fail.
"""

import contextlib
import fcntl
import json
import os
import re
import signal
import zipfile
from pathlib import Path

from hydra.utils import instantiate

from autocaption.cli import command


def height(lr, dropout=0.5):
    """The metric of the last epoch: at most 1, for lr = 0.01 without dropout."""
    return 1 - abs(lr - 0.01) * 20 - dropout / 10


def main(config):
    folder = Path(config.run_dir)
    with open(folder / "quick.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if another process runs this trial
        with contextlib.ExitStack() as gpus:
            for gpu in filter(None, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")):
                used = gpus.enter_context(open(folder.parent / f"gpu_{gpu}.lock", "w"))
                fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
                note(folder, "gpu", gpu)
            work(config, folder)


def work(config, folder):
    first = int((Path(config.resume).parent / "epoch").read_text()) if config.resume else 0
    note(folder, "start", first)
    faults = json.loads(os.environ.get("QUICK_FAULTS", "{}"))
    number = folder.name.removeprefix("trial_")
    if faults.get(number) == "error":
        raise ValueError(f"trial {number} failed as asked")
    reporter = instantiate(config.callbacks.sweep.reporter)
    highest = height(config.optimizer.lr, config.model.decoder.dropout)
    value = 0.0
    for epoch in range(first + 1, config.trainer.max_epochs + 1):
        value = highest * epoch / config.trainer.max_epochs
        note(folder, "epoch", epoch)
        if reporter.report(epoch, value, epoch == config.trainer.max_epochs):
            break
        save(folder, epoch)
        if faults.get(number) == f"hang {epoch}":
            signal.pause()  # until Ctrl-C or the sweeper's end
        if faults.get(number) == f"die {epoch}" and not config.resume:
            os.kill(os.getpid(), 9)
        if re.fullmatch(rf"signal \d+ {epoch}", faults.get(number, "")) and not config.resume:
            os.kill(os.getppid(), int(faults[number].split()[1]))
            signal.pause()
    (folder / "metrics.json").write_text(json.dumps({"val/bleu4": value, "val/perplexity": 2 - value}))
    note(folder, "end", number)


def note(folder, *words):
    with open(folder / "notes.txt", "a") as file:
        print(*words, file=file)


def save(folder, epoch):
    (folder / "checkpoints").mkdir(exist_ok=True)
    temporary = folder / "checkpoints/temporary"
    with zipfile.ZipFile(temporary, "w") as file:
        file.writestr("epoch", str(epoch))
    (folder / "checkpoints/epoch").write_text(str(epoch))
    os.replace(temporary, folder / "checkpoints/last.ckpt")
    note(folder, "saved", epoch)


if __name__ == "__main__":
    command(main, "train")
