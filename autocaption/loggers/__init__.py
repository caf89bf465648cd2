"""Where metrics go, besides Lightning's own loggers."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Resumable(Protocol):
    """A logger whose files a run that resumes, or starts anew in its folder, goes on with."""

    def resume_at(self, step: int) -> None:
        """Forget what was logged at a step and after it, which is logged again; all of it at step 0."""
        ...
