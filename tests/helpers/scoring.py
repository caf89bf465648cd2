"""Metrics as conf/ has them, and what they score."""

from autocaption import build
from autocaption.data.sources import CaptionedImage
from autocaption.metrics.corpus import Generated
from helpers.configs import composed


class Training:
    """A source that has training captions only."""

    def __init__(self, captions):
        self.captions = captions

    def split(self, name):
        assert name == "train"
        return [CaptionedImage(i, None, name, texts) for i, texts in enumerate(self.captions)]


def metrics(choice="coco", training=(("a dog runs", "a dog is running"), ("two men sit",))):
    return build.metrics(composed(f"metrics={choice}"), Training(training))


def images(captions, references):
    """One caption an image, or several in a list."""
    several = [[texts] if isinstance(texts, str) else texts for texts in captions]
    return [Generated(f"i{i:02}", *pair) for i, pair in enumerate(zip(several, references, strict=True))]


def scores(captions, references, choice="coco"):
    return metrics(choice).score(images(captions, references)).scores()
