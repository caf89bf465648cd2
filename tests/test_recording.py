import logging
import signal

import pytest
from omegaconf import OmegaConf

from autocaption.recording import recorded_run
from autocaption.runs.run import PreemptedError


def stopped(folder, leaves):
    """A run that SIGTERM stops once it has left a file, or none."""
    trainer = {"precision": "32-true", "accelerator": "cpu", "devices": 1, "num_nodes": 1}
    config = OmegaConf.create({"run_dir": str(folder), "resume": None, "trainer": trainer, "callbacks": {}})
    with recorded_run(config, "train", None):
        if leaves:
            (folder / leaves).parent.mkdir()
            (folder / leaves).touch()
        raise PreemptedError(signal.SIGTERM)


@pytest.mark.parametrize(
    ("leaves", "line"),
    [("checkpoints/last.ckpt", "Resume with: resume={}"), (None, "Nothing to resume yet: run it again")],
)
def test_a_stopped_run_says_whether_it_can_be_resumed(tmp_path, caplog, monkeypatch, leaves, line):
    monkeypatch.setattr("sys.argv", ["train.py"])
    with caplog.at_level(logging.INFO), pytest.raises(PreemptedError):
        stopped(tmp_path, leaves)
    assert caplog.messages[-1] == f"Stopped by SIGTERM. {line.format(tmp_path)}"
