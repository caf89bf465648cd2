"""TensorBoard's own reader sees one run, whatever its attempts repeat."""

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from autocaption.loggers import Resumable
from autocaption.loggers.tensorboard import ResumableTensorBoardLogger


def attempt(folder, steps, resume=None):
    """An attempt that logs a value at each of the steps, and is killed."""
    logger = ResumableTensorBoardLogger(str(folder), "tensorboard", version="")
    logger.log_hyperparams({"seed": 1})
    if resume is not None:
        assert isinstance(logger, Resumable)
        logger.resume_at(resume)
    for step, value in steps:
        logger.log_metrics({"train/loss": value}, step)
    logger.experiment.flush()


def curves(folder):
    """{run: its (step, value)} as TensorBoard shows them."""
    found = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    return {run: [(e.step, e.value) for e in found.Scalars(run, "train/loss")] for run in found.Runs()}


@pytest.mark.parametrize("resume", [0, 2])
def test_a_resumed_run_is_one_curve_without_what_was_logged_twice(tmp_path, resume):
    attempt(tmp_path, [(0, 4.0), (1, 3.0), (2, 9.0), (3, 9.0)])
    attempt(tmp_path, [(step, 2.0) for step in range(resume, 5)], resume)
    kept = [(0, 4.0), (1, 3.0)][:resume]
    assert curves(tmp_path / "tensorboard") == {".": kept + [(step, 2.0) for step in range(resume, 5)]}
