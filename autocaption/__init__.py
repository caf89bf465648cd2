"""An experiment framework for image captioning; README.md walks the tree."""

import os

__version__ = "0.1.0"

# What torch and oneDNN keep of each shape of a bf16 product on a CPU, some MB each and by default 1024 of
# them: no two batches have as many words, so nearly all would be of no use again. Read when torch loads.
for cache in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(cache, "64")
