"""A trial without training: the real command, sweeper, storage and pruner around a known function.

Its value rises over the epochs to a height that depends on the swept parameters only, so that a test knows
the result of every trial. It saves a checkpoint, and it writes down what it does.
"""

import fcntl
import json
import os
import signal
import zipfile
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf

from autocaption.cli import command


def height(lr, dropout=0.5):
    """Best at lr = 0.01 and no dropout; at most 1."""
    return 1 - abs(lr - 0.01) * 20 - dropout / 10


def main(config):
    folder = Path(config.run_dir)
    with open(folder / "quick.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where another process runs this trial
        work(config, folder)


def work(config, folder):
    first = int((Path(config.resume).parent / "epoch").read_text()) if config.resume else 0
    note(folder, "start", first)
    (folder / "config.json").write_text(json.dumps(OmegaConf.to_container(config)))
    faults = json.loads(os.environ.get("QUICK_FAULTS", "{}"))  # by trial number, as text
    number = folder.name.removeprefix("trial_")
    if faults.get(number) == "error":
        raise ValueError(f"trial {number} was told to fail")
    if faults.get(number) == "die 0":
        os.kill(os.getpid(), 9)
    reporter = instantiate(config.callbacks.sweep.reporter)
    value = height(config.optimizer.lr, config.model.decoder.dropout)
    now = 0.0
    for epoch in range(first + 1, config.trainer.max_epochs + 1):
        now = value * epoch / config.trainer.max_epochs
        note(folder, "epoch", epoch)
        if reporter.report(epoch, now, epoch == config.trainer.max_epochs):
            break
        keep(folder, epoch)
        if faults.get(number) == f"hang {epoch}":
            signal.pause()  # for a Ctrl-C or the death of the sweeper
        if faults.get(number) == f"die {epoch}" and not config.resume:
            os.kill(os.getpid(), 9)
    metrics = {"val/bleu4": float("nan") if faults.get(number) == "nan" else now, "val/perplexity": 2 - now}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    note(folder, "end", number)


def note(folder, *words):
    with open(folder / "notes.txt", "a") as file:
        print(*words, file=file)


def keep(folder, epoch):
    (folder / "checkpoints").mkdir(exist_ok=True)
    aside = folder / "checkpoints/aside"
    with zipfile.ZipFile(aside, "w") as file:
        file.writestr("epoch", str(epoch))
    (folder / "checkpoints/epoch").write_text(str(epoch))
    os.replace(aside, folder / "checkpoints/last.ckpt")
    note(folder, "kept", epoch)


if __name__ == "__main__":
    command(main, "train")
