from typing import Any

from pytorch_lightning.utilities import rank_zero_only


def is_first_rank() -> bool:
    """Whether this process speaks and writes for all ranks; true before ranks exist."""
    rank: Any = getattr(rank_zero_only, "rank", 0)
    return not rank
