"""Batches: what comes together is worked on together, in order, and only with its like."""

import asyncio
import threading

import pytest

from autocaption.serve.batcher import Batcher


class Doubling:
    """Doubles numbers; the batches that it got, and a gate before it answers the first."""

    def __init__(self):
        self.batches, self.started, self.go = [], threading.Event(), threading.Event()

    def __call__(self, items, settings):
        self.batches.append((items, settings))
        self.started.set()
        assert self.go.wait(20)
        if settings == "bad":
            raise ValueError("bad")
        if settings == "short":
            return []
        return [2 * item for item in items]


async def entered(event):
    await asyncio.get_running_loop().run_in_executor(None, event.wait, 20)


def worked(items_of_settings, size=8, window=0.0, cancelled=()):
    """(results, batches) of items that come while a first one, 0, is worked on."""

    async def run():
        work = Doubling()
        batcher = Batcher(work, size, window)
        running = asyncio.create_task(batcher.run())
        first = asyncio.create_task(batcher(0, "a"))
        await entered(work.started)
        tasks = [asyncio.create_task(batcher(*pair)) for pair in items_of_settings]
        await asyncio.sleep(0)
        for index in cancelled:
            tasks[index].cancel()
        await asyncio.sleep(0)
        work.go.set()
        results = await asyncio.gather(first, *tasks, return_exceptions=True)
        running.cancel()
        return results, work.batches

    return asyncio.run(run())


def test_what_waits_is_one_batch():
    results, batches = worked([(i, "a") for i in range(1, 6)])
    assert results == [0, 2, 4, 6, 8, 10]
    assert batches == [([0], "a"), ([1, 2, 3, 4, 5], "a")]


def test_a_batch_has_a_size():
    _, batches = worked([(i, "a") for i in range(1, 6)], size=2)
    assert [items for items, _ in batches] == [[0], [1, 2], [3, 4], [5]]


def test_a_batch_has_one_kind_of_settings_and_the_oldest_goes_first():
    results, batches = worked([(1, "b"), (2, "a"), (3, "b"), (4, "a")])
    assert batches[1:] == [([1, 3], "b"), ([2, 4], "a")]
    assert results == [0, 2, 4, 6, 8]


def test_who_went_away_is_not_worked_on():
    results, batches = worked([(1, "a"), (2, "a"), (3, "a")], cancelled=[1])
    assert batches[1:] == [([1, 3], "a")]
    assert isinstance(results[2], asyncio.CancelledError)


def test_an_error_reaches_its_batch_only():
    results, _ = worked([(1, "bad"), (2, "a"), (3, "bad"), (4, "short"), (5, "a")])
    kinds = [int, ValueError, int, ValueError, ValueError, int]
    assert [type(result) for result in results] == kinds


@pytest.mark.parametrize(("window", "together"), [(30.0, [[1, 2]]), (0.0, [[1], [2]])])
def test_an_item_waits_for_company_as_long_as_it_may(window, together):
    async def run():
        work = Doubling()
        work.go.set()
        batcher = Batcher(work, 2, window)  # a full batch ends the wait
        running = asyncio.create_task(batcher.run())
        first = asyncio.create_task(batcher(1, "a"))
        if window:
            for _ in range(5):
                await asyncio.sleep(0)
        else:
            await first
        await asyncio.gather(first, batcher(2, "a"))
        running.cancel()
        return [items for items, _ in work.batches]

    assert asyncio.run(run()) == together
