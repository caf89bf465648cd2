"""An experiment framework for image captioning; README.md walks the tree."""

import os

__version__ = "0.1.0"

# oneDNN keeps what it made for each shape of a product, some MB each and by default 1024 of them; no two
# batches have as many words, so nearly all would be of no use again. Read when torch is loaded.
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
