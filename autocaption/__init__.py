"""An experiment framework for image captioning; README.md walks the tree."""

__version__ = "0.1.0"
