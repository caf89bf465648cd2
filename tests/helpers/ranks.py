"""Ranks of a gloo group, forked so that none imports torch again; they can't compute gradients."""

import multiprocessing
from contextlib import contextmanager

import torch
import torch.distributed as dist


@contextmanager
def joined(rank, ranks, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    yield
    dist.destroy_process_group()


def on_ranks(task, given, meeting):
    """What a task gives on each rank; None where it fails.

    Args:
        task: a function of the rank and of what it is given.
        given: something for each rank.
        meeting: a file that doesn't exist.
    """

    def work(rank, own, results):
        with joined(rank, len(given), meeting):
            results[rank] = task(rank, own)

    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        ranks = [context.Process(target=work, args=(*one, results)) for one in enumerate(given)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
        return [results.get(rank) for rank in range(len(given))]
