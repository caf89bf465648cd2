"""What a data set holds: captions, words, pictures, duplicates, as plain values for a table and a page."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nlargest, nsmallest
from itertools import combinations
from operator import itemgetter
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from autocaption.data.sources import SPLITS, CaptionedImage, Source
from autocaption.errors import UserError
from autocaption.machine import cores
from autocaption.progress import track

MIN_COUNTS = range(1, 11)
SHOWN = 10  # of each list
NEAR = 3  # bits of 64 in which the hashes of near-duplicates may differ


class Picture(NamedTuple):
    """What is kept of a decoded picture: its size, a digest of its pixels, and a perceptual hash."""

    size: tuple[int, int]
    digest: bytes
    hash: int


@dataclass(frozen=True)
class Pair:
    """Two images that look alike; `bits` of their hashes differ, and none where all pixels are the same."""

    one: CaptionedImage
    other: CaptionedImage
    bits: int | None


def inspected(source: Source, normalize: Callable[[str], str]) -> dict[str, Any]:
    """Everything that the table and the page show.

    Args:
        source: the data set.
        normalize: a caption to its words, separated by single spaces.
    """
    images = {split: source.split(split) for split in SPLITS}
    everything = [image for split in SPLITS for image in images[split]]
    pictures, broken = _pictures(source, everything)
    sizes = [picture.size for picture in pictures.values()]
    pairs = alike([(image, pictures[image.id]) for image in everything if image.id in pictures])
    texts = {
        split: [normalize(text) for image in images[split] for text in image.captions] for split in SPLITS
    }
    written = ((image, text) for image in everything for text in image.captions)
    counts = (len(text.split()) for split in SPLITS for text in texts[split])
    lengths = [(*one, count) for one, count in zip(written, counts, strict=True)]  # image, caption, words
    return {
        "splits": {split: _split_facts(images[split], texts[split]) for split in SPLITS},
        "captions": caption_facts([text for split in SPLITS for text in texts[split]]),
        "vocabulary": vocabulary_facts(texts),
        "longest": nlargest(SHOWN, lengths, itemgetter(2)),
        "shortest": nsmallest(SHOWN, lengths, itemgetter(2)),
        "sizes": size_facts(sizes),
        "broken": broken,
        "identical": [pair for pair in pairs if pair.bits is None],
        "similar": [pair for pair in pairs if pair.bits is not None],
    }


def _split_facts(images: Sequence[CaptionedImage], texts: Sequence[str]) -> dict[str, Any]:
    counts = [len(image.captions) for image in images]
    return {
        "images": len(images),
        "captions": len(texts),
        "captions an image": (min(counts), max(counts)),
        "words a caption": fmean(len(text.split()) for text in texts),
    }


def caption_facts(texts: Sequence[str]) -> dict[str, Any]:
    """Lengths in words, the most frequent words, and captions that occur several times."""
    lengths = Counter(len(text.split()) for text in texts)
    repeated = Counter({text: count for text, count in Counter(texts).items() if count > 1})
    return {
        "mean": sum(length * count for length, count in lengths.items()) / len(texts),
        "mode": max(lengths, key=lambda length: (lengths[length], -length)),
        "histogram": [(length, lengths[length]) for length in range(max(lengths) + 1)],
        "words": Counter(word for text in texts for word in text.split()).most_common(30),
        "repeated": len(repeated),
        "most repeated": repeated.most_common(SHOWN),
    }


def vocabulary_facts(texts: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """For each minimal count in training: words that occur as often, and the share of <unk> in each split."""
    counts = {split: Counter(word for text in texts[split] for word in text.split()) for split in SPLITS}
    rows = []
    for min_count in MIN_COUNTS:
        kept = {word for word, count in counts["train"].items() if count >= min_count}
        unknown = {
            split: 1 - sum(count for word, count in found.items() if word in kept) / max(found.total(), 1)
            for split, found in counts.items()
        }
        rows.append({"min_count": min_count, "words": len(kept), "unknown": unknown})
    return rows


def size_facts(sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Smallest, median and largest width and height, and the most frequent sizes."""
    if not sizes:
        return {}
    widths, heights = zip(*sizes, strict=True)
    return {
        "width": (min(widths), int(median(widths)), max(widths)),
        "height": (min(heights), int(median(heights)), max(heights)),
        "most frequent": Counter(sizes).most_common(SHOWN),
    }


def perceptual_hash(picture: Image.Image) -> int:
    """64 bits: whether each pixel of the picture, shrunk to 9 x 8 greys, is brighter than its neighbour.

    It hardly changes where a picture is scaled, compressed or brightened.
    """
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def alike(pictures: Sequence[tuple[CaptionedImage, Picture]]) -> list[Pair]:
    """Pairs of images with the same pixels, and of those whose hashes differ in at most NEAR bits."""
    by_digest: dict[bytes, list[CaptionedImage]] = defaultdict(list)
    hashes: dict[int, list[CaptionedImage]] = defaultdict(list)
    for image, picture in pictures:
        if not by_digest[picture.digest] and picture.hash:  # a hash of 0 is a picture in one colour
            hashes[picture.hash].append(image)
        by_digest[picture.digest].append(image)
    pairs = [Pair(same[0], other, None) for same in by_digest.values() for other in same[1:]]
    pairs += [Pair(same[0], other, 0) for same in hashes.values() for other in same[1:]]
    # Two hashes that differ in fewer bits than there are bands agree in a band.
    bands: dict[tuple[int, int], list[int]] = defaultdict(list)
    for value in hashes:
        for band in range(NEAR + 1):
            bands[band, value >> 16 * band & 0xFFFF].append(value)
    near = {
        (one, other)
        for values in bands.values()
        for one, other in combinations(values, 2)
        if (one ^ other).bit_count() <= NEAR
    }
    pairs += [Pair(hashes[a][0], hashes[b][0], (a ^ b).bit_count()) for a, b in near]
    # Those in two splits first: they are the ones that spoil a result.
    return sorted(
        pairs, key=lambda pair: (pair.one.split == pair.other.split, str(pair.one.id), str(pair.other.id))
    )


def _pictures(source: Source, images: Sequence[CaptionedImage]) -> tuple[dict[Any, Picture], list[str]]:
    """({id: picture}, errors) of all images."""

    def decoded(image: CaptionedImage) -> Picture | str:
        try:
            picture = source.read(image)
        except UserError as error:
            return str(error)
        digest = blake2b(repr(picture.size).encode() + picture.tobytes(), digest_size=16).digest()
        return Picture(picture.size, digest, perceptual_hash(picture))

    with ThreadPoolExecutor(cores()) as pool:
        results = track(pool.map(decoded, images), "Reading images", len(images))
        found = list(zip(images, results, strict=True))
    pictures = {image.id: one for image, one in found if isinstance(one, Picture)}
    return pictures, [one for _, one in found if isinstance(one, str)]
