"""Which rank of a multi-device run this process is, and how rank 0 tells the others where the run lies."""

import os
import sys
import time
from datetime import timedelta
from typing import Any

from autocaption.errors import UserError

# Names the folder in which rank 0 hands its configuration to the other ranks (runs/rank_folder.py).
RANKS = "AUTOCAPTION_RANKS"
_START = timedelta(minutes=5)  # in which all processes start
_COMPOSE = timedelta(minutes=30)  # in which rank 0 composes, and reads a checkpoint


def is_first_rank() -> bool:
    """Whether this process logs and writes for all ranks; true before ranks exist."""
    from pytorch_lightning.utilities import rank_zero_only  # here, since the command line needs no torch

    rank: Any = getattr(rank_zero_only, "rank", 0)
    return not rank and not outside_rank()


def outside_rank() -> int | None:
    """The rank of a process that torchrun, srun or a user (NODE_RANK) started beside others; else None.

    Of the processes that Lightning starts on a node, the first one counts.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"])
    if _by_srun():
        return int(os.environ["SLURM_PROCID"])
    if "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ and "NODE_RANK" in os.environ:
        return int(os.environ["NODE_RANK"])
    return None


def outside_world() -> int | None:
    """How many ranks torchrun or srun started; None where the Trainer starts them."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ["SLURM_NTASKS"]) if outside_rank() is not None and _by_srun() else None


def _by_srun() -> bool:
    return "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1


def announce(folder: str) -> None:
    """Tell the other ranks, whoever starts them, in which folder rank 0 hands them their configuration."""
    os.environ[RANKS] = folder
    if rendezvous is not None:
        rendezvous.tell(folder)


class Rendezvous:
    """Where processes that were started from outside meet, before any has composed a configuration.

    torch's own key-value store, at the address at which the ranks will meet again to train: torchrun's, or
    one that rank 0 keeps open and torch then shares. It carries a path, never a configuration, which may
    hold secrets.

    Args:
        rank: this process's `outside_rank`.
    """

    def __init__(self, rank: int) -> None:
        import torch.distributed as dist

        address, port = _address()
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun keeps the store
        self._key = f"autocaption/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        self._store = dist.TCPStore(
            address,
            port,
            is_master=rank == 0 and not agent,
            timeout=_START,
            wait_for_workers=False,
            multi_tenant=not agent,
        )
        self._store.set_timeout(_COMPOSE)
        self._told = False

    def tell(self, folder: str) -> None:
        """Name the folder to all."""
        self._store.set(self._key, folder)
        self._told = True

    def end(self) -> None:
        """End the others, too, where this process ends without having named a folder."""
        if self._told:
            return
        self.tell("")
        others, until = (outside_world() or 1) - 1, time.monotonic() + _START.total_seconds()
        while self._store.add(f"{self._key}/read", 0) < others and time.monotonic() < until:
            time.sleep(0.1)  # the store ends with this process; they would look for it for minutes

    def wait(self) -> str:
        """The folder that rank 0 names; ends this process where rank 0 ends before that, and says why."""
        try:
            folder = self._store.get(self._key).decode()
            self._store.add(f"{self._key}/read", 1)
        except RuntimeError:  # rank 0 has taken the store with it
            folder = ""
        if not folder:
            sys.exit(1)
        return folder


rendezvous: Rendezvous | None = None  # of this process, where others were started beside it


def _address() -> tuple[str, int]:
    if _by_srun() and "TORCHELASTIC_RUN_ID" not in os.environ:
        from lightning_fabric.plugins.environments import SLURMEnvironment

        try:
            slurm = SLURMEnvironment()
        except RuntimeError as error:  # it asks for --ntasks-per-node
            raise UserError(str(error)) from None
        return slurm.main_address, slurm.main_port
    return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
