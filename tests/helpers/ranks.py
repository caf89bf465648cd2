"""Ranks of a gloo group. Forked ones need not import torch again, but can't compute gradients."""

import multiprocessing
from contextlib import contextmanager

import torch
import torch.distributed as dist

from helpers import PATIENCE


@contextmanager
def joined(rank, ranks, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    yield
    dist.destroy_process_group()


def work(task, rank, given, meeting, results):
    with joined(rank, len(given), meeting):
        results[rank] = task(rank, given[rank])


def on_ranks(task, given, meeting, start="fork", seconds=PATIENCE):
    """What a task gives on each rank; None where it fails.

    Args:
        task: a function of the rank and of what it is given.
        given: something for each rank.
        meeting: a file that doesn't exist.
        start: `fork`, or `spawn`, for which the task must be importable.
        seconds: how long to wait for each rank.
    """
    context = multiprocessing.get_context(start)
    with context.Manager() as manager:
        results = manager.dict()
        ranks = [
            context.Process(target=work, args=(task, rank, given, meeting, results))
            for rank in range(len(given))
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(seconds)
        return [results.get(rank) for rank in range(len(given))]
