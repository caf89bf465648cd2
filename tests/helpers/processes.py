"""Processes forked from this one, which need not import torch again; they can't compute gradients."""

import multiprocessing

from helpers import PATIENCE


def forked(task, *arguments):
    """A process that runs a task; `exitcode` is -N if signal N killed it."""
    process = multiprocessing.get_context("fork").Process(target=task, args=arguments)
    process.start()
    return process


def exit_codes(*processes, seconds=PATIENCE):
    """How processes end; one that takes longer has None, and is killed."""
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes
