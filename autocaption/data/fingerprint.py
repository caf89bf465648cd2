"""What tells whether two runs saw the same captions."""

import hashlib
from collections.abc import Sequence

from autocaption.data.sources import CaptionedImage


def fingerprint(images: Sequence[CaptionedImage]) -> str:
    """A digest of a split's image ids and captions, in order; the same whatever the format and the folder."""
    digest = hashlib.sha256()
    for image in images:
        for text in (str(image.id), *image.captions):
            raw = text.encode()
            digest.update(len(raw).to_bytes(4, "big") + raw)
        digest.update(b"\xff\xff\xff\xff")  # no text is that long
    return digest.hexdigest()[:16]
