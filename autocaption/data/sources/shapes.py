"""Generated scenes of two shapes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from autocaption.checks import whole
from autocaption.data.sources import SPLITS, CaptionedImage
from autocaption.errors import UserError

KINDS = ("circle", "square", "triangle")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 230),
    "yellow": (240, 220, 50),
    "purple": (150, 50, 180),
    "orange": (250, 140, 30),
    "pink": (255, 150, 200),
    "cyan": (60, 220, 230),
}
SIZES = {"small": 0.1, "large": 0.165}  # half width, as a share of the picture
BACKGROUNDS = {"black": (0, 0, 0), "gray": (110, 110, 110), "white": (255, 255, 255)}
CELLS = list(combinations(range(9), 2))  # two different cells of a 3 x 3 grid

OBJECTS = len(KINDS) * len(COLOURS) * len(SIZES)
SCENES = OBJECTS * OBJECTS * len(CELLS) * len(BACKGROUNDS)


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of a scene; cells are numbered from the top left, row by row."""

    kind: str
    colour: str
    size: str
    cell: int

    def relations_to(self, other: "Thing") -> list[str]:
        """Every relation of the two objects that holds in the picture."""
        rows, columns = self.cell // 3 - other.cell // 3, self.cell % 3 - other.cell % 3
        vertical = ["above"] * (rows < 0) + ["below"] * (rows > 0)
        horizontal = ["left of"] * (columns < 0) + ["right of"] * (columns > 0)
        return vertical + horizontal


@dataclass(frozen=True, slots=True)
class Scene:
    """Two objects on a background, from which picture and captions are made."""

    first: Thing
    second: Thing
    background: str

    @classmethod
    def numbered(cls, number: int) -> "Scene":
        """Scene `number` of all SCENES; its properties are the digits of a mixed-radix number."""

        def pick(choices: Sequence[Any]) -> Any:
            nonlocal number
            number, digit = divmod(number, len(choices))
            return choices[digit]

        cells = pick(CELLS)
        background = pick(list(BACKGROUNDS))
        things = [Thing(pick(KINDS), pick(list(COLOURS)), pick(list(SIZES)), cell) for cell in cells]
        return cls(things[0], things[1], background)

    def captions(self, rng: random.Random) -> tuple[str, ...]:
        """Five true sentences of different forms, in random order."""
        forms = [
            lambda a, b, r: f"{_a(a.colour)} {a.kind} is {r} {_a(b.colour)} {b.kind}.",
            lambda a, b, r: (
                f"There is {_a(a.size)} {a.colour} {a.kind} {r} {_a(b.size)} {b.colour} {b.kind}."
            ),
            lambda a, b, r: (
                f"{_a(a.colour)} {a.kind} and {_a(b.colour)} {b.kind} on a {self.background} background."
            ),
            lambda a, b, r: f"The {a.size} {a.kind} is {r} the {b.size} {b.kind}.",
            lambda a, b, r: f"{_a(a.size)} {a.colour} {a.kind} can be seen {r} {_a(b.colour)} {b.kind}.",
        ]
        rng.shuffle(forms)
        captions = []
        for form in forms:
            a, b = (self.first, self.second) if rng.random() < 0.8 else (self.second, self.first)
            text = form(a, b, rng.choice(a.relations_to(b)))
            captions.append(text[0].upper() + text[1:])
        return tuple(captions)

    def draw(self, size: int, rng: random.Random) -> Image.Image:
        """The picture, `size` pixels square; objects are shifted a little within their cells."""
        image = Image.new("RGB", (size, size), BACKGROUNDS[self.background])
        pen = ImageDraw.Draw(image)
        for thing in (self.first, self.second):
            half = SIZES[thing.size] * size * rng.uniform(0.9, 1.05)
            row, column = divmod(thing.cell, 3)
            x = (column + 0.5 + rng.uniform(-0.06, 0.06)) * size / 3
            y = (row + 0.5 + rng.uniform(-0.06, 0.06)) * size / 3
            _draw_kind(pen, thing.kind, x, y, half, COLOURS[thing.colour])
        return image


class Shapes:
    """Scenes of two shapes, generated on the fly: no files, no network.

    The scenes of a split are a range of one seeded permutation of all SCENES (248,832), so no scene
    occurs twice, within a split or across splits.

    Args:
        seed: seed of the permutation, the wording and the drawing.
        size: side of the pictures in pixels.
        train: number of training images; likewise `val` and `test`.
    """

    def __init__(self, seed: int, size: int, train: int, val: int, test: int) -> None:
        self.size = whole("data.source.size", size, 1, 4096)
        self.seed = whole("data.source.seed", seed, 0, 2**32 - 1)  # what NumPy takes
        for name, count in zip(SPLITS, (train, val, test), strict=True):
            whole(f"data.source.{name}", count, 1, SCENES)
        counts = dict(zip(SPLITS, (train, val, test), strict=True))
        if sum(counts.values()) > SCENES:
            raise UserError(
                f"data.source: {train} + {val} + {test} scenes asked for; there are {SCENES} in all"
            )
        # NumPy has frozen RandomState's stream, so the scenes never change; val and test come first, so
        # that they do not depend on the size of the training split.
        self._order = np.random.RandomState(seed).permutation(SCENES)
        starts = {"val": 0, "test": val, "train": val + test}
        self._ranges = {name: range(starts[name], starts[name] + counts[name]) for name in SPLITS}

    def split(self, name: str) -> Sequence[CaptionedImage]:
        """The images of a split, generated on demand."""
        if name not in self._ranges:
            raise UserError(f"no split '{name}' in shapes; take one of: {', '.join(SPLITS)}")
        return _Split(self, name, self._ranges[name])

    def read(self, image: CaptionedImage, least: int | None = None) -> Image.Image:
        """Draw the picture, always at its size."""
        number = int(str(image.id).rpartition("-")[2])
        return Scene.numbered(number).draw(self.size, self._rng("draw", number))

    def captioned(self, position: int, split: str) -> CaptionedImage:
        """The image at a position of the permutation."""
        number = int(self._order[position])
        captions = Scene.numbered(number).captions(self._rng("tell", number))
        return CaptionedImage(f"shapes-{number:06d}", None, split, captions)

    def _rng(self, what: str, number: int) -> random.Random:
        return random.Random(f"{what} {self.seed} {number}")


class _Split(Sequence):
    """Images at positions of the permutation, generated on demand."""

    def __init__(self, source: Shapes, name: str, positions: range) -> None:
        self._source, self._name, self._positions = source, name, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return _Split(self._source, self._name, self._positions[i])
        return self._source.captioned(self._positions[i], self._name)


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _draw_kind(pen: ImageDraw.ImageDraw, kind: str, x: float, y: float, r: float, fill: tuple) -> None:
    box = (x - r, y - r, x + r, y + r)
    if kind == "circle":
        pen.ellipse(box, fill)
    elif kind == "square":
        pen.rectangle(box, fill)
    else:
        pen.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill)
