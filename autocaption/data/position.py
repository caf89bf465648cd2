"""Where a training stands in its data, and where a resumed one starts."""

from typing import Any, NamedTuple


class Position(NamedTuple):
    """An epoch, and how many of its images all ranks have trained on."""

    epoch: int = 0
    images: int = 0

    @classmethod
    def of(cls, trainer: Any, batch_size: int) -> "Position":
        """Where a Trainer stands with batches of this size on each device."""
        epoch, batches = trainer.current_epoch, 0
        if trainer.state.status == "running":
            batches = trainer.fit_loop.epoch_loop.batch_progress.current.processed
            if batches >= trainer.num_training_batches:
                epoch, batches = epoch + 1, 0
        return cls(epoch, batches * batch_size * trainer.world_size)

    def after_whole_steps(self, images: int) -> "Position":
        """This position, or the start of its epoch where no optimizer step of so many images ends here."""
        return Position(self.epoch) if self.images % images else self
