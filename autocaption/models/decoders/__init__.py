"""Decoders, and what all of them check."""

from autocaption.checks import whole

MOST_LAYERS = 100  # building a mistyped number of layers would fill the memory


def require_sizes(**sizes: int) -> None:
    """Make sure that these keys of `model.decoder` are whole numbers from 1.

    Raises:
        UserError: one isn't.
    """
    for name, size in sizes.items():
        whole(f"model.decoder.{name}", size, 1)
