import logging
import signal

import pytest
from omegaconf import OmegaConf

from autocaption.data.sources.shapes import Shapes
from autocaption.files import write_json
from autocaption.recording import record_data, recorded_run
from autocaption.runs.provenance import record_start
from autocaption.runs.record import state_of
from autocaption.runs.run import PreemptedError, Run


def recorded(folder):
    """The folder of a training while it works."""
    trainer = {"precision": "32-true", "accelerator": "cpu", "devices": 1, "num_nodes": 1}
    config = OmegaConf.create({"run_dir": str(folder), "resume": None, "trainer": trainer, "callbacks": {}})
    return recorded_run(config, "train", None)


def stopped(folder, leaves):
    """A run that SIGTERM stops once it has left a file, or none."""
    with recorded(folder):
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


def test_a_run_that_a_signal_meets_as_it_ends_has_finished(tmp_path, caplog, monkeypatch):
    def write(file, value):
        if value["state"] == "finished" and not (tmp_path / "late").exists():
            (tmp_path / "late").touch()
            raise PreemptedError(signal.SIGTERM)
        write_json(file, value)

    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.setattr("autocaption.runs.run.write_json", write)
    with caplog.at_level(logging.INFO), pytest.raises(PreemptedError), recorded(tmp_path):
        pass
    assert caplog.messages[-1] == "Stopped by SIGTERM. It had finished"
    assert state_of(tmp_path) == "finished"


def test_a_resumed_run_says_which_splits_have_changed(tmp_path, caplog):
    run = Run.start(tmp_path, "train", "train.py")
    for sizes, said in [((4, 2), []), ((4, 2), []), ((5, 2), ["train"]), ((6, 3), ["train and val"])]:
        record_start(tmp_path / "provenance.json")
        caplog.clear()
        source = Shapes(seed=0, size=8, train=sizes[0], val=sizes[1], test=1)
        record_data(run, source, ["train", "val"], resumed=True)
        lines = [f"images or captions of {splits} are not those of the attempt before" for splits in said]
        assert [message.partition(":")[0] for message in caplog.messages] == lines
    run.release()
