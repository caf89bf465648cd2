"""Which rank of a multi-device run this process is."""

from typing import Any

# Names the file with the configuration that rank 0 resolved; ranks it starts load that file.
RANK_CONFIG = "AUTOCAPTION_RANK_CONFIG"


def is_first_rank() -> bool:
    """Whether this process logs and writes for all ranks; true before ranks exist."""
    from pytorch_lightning.utilities import rank_zero_only  # here, since the command line needs no torch

    rank: Any = getattr(rank_zero_only, "rank", 0)
    return not rank
