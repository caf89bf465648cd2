from torch import nn


def parameter_count(module: nn.Module, depth: int = 2) -> dict[str, tuple[int, int]]:
    """{part: (parameters, those of them that are trained)}, each parameter counted once.

    Args:
        module: the model.
        depth: how far down parts are told apart: 1 for encoder and decoder, 2 for what these consist of.
    """
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in module.named_parameters():
        part = ".".join(name.split(".")[:depth])
        every, trained = counts.get(part, (0, 0))
        size = parameter.numel()
        counts[part] = (every + size, trained + size * parameter.requires_grad)
    return counts
