"""An experiment framework for image captioning; README.md walks the tree."""

import os
from typing import TYPE_CHECKING, Any

from autocaption.errors import UserError

if TYPE_CHECKING:
    from autocaption.api import Caption, Captioner, CaptionModel, Prepared, WordMaps, load

__version__ = "0.1.0"
__all__ = ["Caption", "CaptionModel", "Captioner", "Prepared", "UserError", "WordMaps", "load"]

# torch and oneDNN cache each shape of a bf16 product on a CPU, some MB each and up to 1024 shapes by
# default. No two batches have the same number of words, so nearly no shape returns. Read when torch loads.
for cache in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(cache, "64")


def __getattr__(name: str) -> Any:
    # On first use, since it imports torch and the command line must start without it.
    if name in __all__:
        from autocaption import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
