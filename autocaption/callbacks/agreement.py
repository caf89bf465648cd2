"""What ranks agree on without waiting for their devices."""

from typing import Any

import torch
import torch.distributed as dist


class Agreement:
    """The maximum over all ranks of a number that each passes in at every step, one step late.

    The ranks exchange it on the CPU while they train the step, so neither their devices nor they wait.
    On one device it is the number itself, at once.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._value: torch.Tensor | None = None
        self._pending: Any = None

    def __call__(self, value: int) -> int:
        """Pass in this rank's number; returns the maximum of those passed in at the step before.

        A collective: every rank calls it equally often.
        """
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return value
        if self._group is None:
            self._group = dist.new_group(backend="gloo")
        agreed = self._result()
        self._value = torch.tensor([value])
        self._pending = dist.all_reduce(self._value, dist.ReduceOp.MAX, self._group, async_op=True)
        return agreed

    def end(self) -> None:
        """Wait for what is under way; to be called when training ends."""
        self._result()
        self._group = None

    def _result(self) -> int:
        if self._pending is None or self._value is None:
            return 0
        self._pending.wait()
        self._pending = None
        return int(self._value)
