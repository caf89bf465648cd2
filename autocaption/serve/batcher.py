"""Requests that come together are worked on together."""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Sequence[Item], Hashable], Sequence[Result]]


@dataclass(eq=False)
class _Job(Generic[Item, Result]):
    item: Item
    settings: Hashable
    result: "asyncio.Future[Result]"
    arrived: float = field(default_factory=time.monotonic)


class Batcher(Generic[Item, Result]):
    """Collects items of equal settings and works on them in one thread, a batch at a time.

    While a batch is worked on, the next one gathers. All its state belongs to the event loop, so that there
    are no locks.

    Args:
        work: (items, their settings) to a result an item; called in a thread of its own.
        size: the most items of a batch.
        window: seconds that an item waits for company when nothing is worked on.
    """

    def __init__(self, work: Work, size: int, window: float) -> None:
        self.work, self.size, self.window = work, size, window
        self._waiting: list[_Job[Item, Result]] = []
        self._arrived = asyncio.Event()

    async def __call__(self, item: Item, settings: Hashable) -> Result:
        """The result of an item; cancelling the call takes it from the queue."""
        job = _Job[Item, Result](item, settings, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._arrived.set()
        try:
            return await job.result
        finally:
            if job in self._waiting:
                self._waiting.remove(job)

    async def run(self) -> None:
        """Work until cancelled."""
        with ThreadPoolExecutor(1, "batcher") as thread:
            while True:
                await self._arrived.wait()
                await self._company()
                if batch := self._take():
                    await self._done(thread, batch)

    async def _company(self) -> None:
        """Wait until the batch is full or its first item has waited long enough."""
        while self._waiting and len(self._waiting) < self.size:
            left = self._waiting[0].arrived + self.window - time.monotonic()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Job[Item, Result]]:
        """The oldest item, and those that can be worked on with it."""
        if self._waiting:
            settings = self._waiting[0].settings
            batch = [job for job in self._waiting if job.settings == settings][: self.size]
        else:
            batch = []
        self._waiting = [job for job in self._waiting if job not in batch]
        if not self._waiting:
            self._arrived.clear()
        else:
            self._arrived.set()
        return batch

    async def _done(self, thread: ThreadPoolExecutor, batch: list[_Job[Item, Result]]) -> None:
        items = [job.item for job in batch]
        try:
            loop = asyncio.get_running_loop()
            results = await loop.run_in_executor(thread, self.work, items, batch[0].settings)
            answered = list(zip(batch, results, strict=True))
        except Exception as error:
            for job in batch:
                if not job.result.done():
                    job.result.set_exception(error)
        else:
            for job, result in answered:
                if not job.result.done():  # who asked may have gone
                    job.result.set_result(result)
