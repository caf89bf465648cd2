"""What tells whether two runs saw the same captions."""

import hashlib
from collections.abc import Sequence

from autocaption.data.image_table import captions_of
from autocaption.data.sources import CaptionedImage


def fingerprint(images: Sequence[CaptionedImage]) -> str:
    """A digest of a split's image ids and captions, in order; the same whatever the format and the folder."""
    digest = hashlib.sha256()
    for id, captions in captions_of(images):
        for text in (str(id), *captions):
            raw = text.encode("utf-8", "surrogatepass")  # JSON and file names may hold half a character
            digest.update(len(raw).to_bytes(4, "big") + raw)
        digest.update(b"\xff\xff\xff\xff")  # no text is that long
    return digest.hexdigest()[:16]
