import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float, final: float) -> LambdaLR:
    """Linear warm-up, then half a cosine (Loshchilov & Hutter 2017), per step.

    Args:
        optimizer: holds the peak learning rates.
        total_steps: of the whole run.
        warmup: the share of the steps in which the rate climbs.
        final: the last rate, as a share of the peak.
    """
    warmup_steps = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)
