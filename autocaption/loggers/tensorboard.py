"""TensorBoard's curves of a run, also of a resumed one."""

from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only


class ResumableTensorBoardLogger(TensorBoardLogger):
    """Lightning's logger, which with `version=""` has one folder for all attempts of a run."""

    @rank_zero_only
    def resume_at(self, step: int) -> None:
        """Let TensorBoard forget what was logged at a step and after it, as its `purge_step` does."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        writer: Any = self.experiment
        writer.file_writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step)
