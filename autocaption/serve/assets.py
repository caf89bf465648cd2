"""The page and what it loads: a few files in memory, and pictures to try that are drawn at the start."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autocaption import pages
from autocaption.data.sources.shapes import Shapes

STATIC = Path(__file__).parent / "static"
SHARED = ("look.css", "theme.js")  # of all pages
SCENES = (25, 18, 49, 10, 56, 14, 67, 39)  # of the test split: many colours, kinds and places
SIDE = 384  # larger than models see them, for sharp screens
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


@dataclass(frozen=True)
class Asset:
    """A file as it is sent."""

    content: bytes
    kind: str

    @classmethod
    def named(cls, name: str, content: bytes) -> "Asset":
        """A file of the kind that its name ends in."""
        return cls(content, KINDS[Path(name).suffix])


@dataclass(frozen=True)
class Sample:
    """A drawn scene to try: its path, what is to be seen, and its file."""

    path: str
    text: str
    content: bytes


def samples() -> list[Sample]:
    """Scenes of `data=shapes`' test split, which no model was trained on."""
    source = Shapes(seed=0, size=SIDE, train=1, val=300, test=max(SCENES) + 1)
    test, drawn = source.split("test"), []
    for number, scene in enumerate(SCENES, 1):
        image = test[scene]
        file = io.BytesIO()
        source.read(image).save(file, "PNG", optimize=True)
        drawn.append(Sample(f"samples/{number}.png", image.captions[0], file.getvalue()))
    return drawn


def assets(drawn: list[Sample], **page: Any) -> dict[str, Asset]:
    """Every file by its path, such as `page.css`; the page itself is `index.html`.

    Args:
        drawn: pictures to try.
        page: values of the page's template.
    """
    environment = pages.environment(STATIC)
    texts = {file.name: file.read_text(encoding="utf-8") for file in STATIC.iterdir()}
    texts |= {name: (pages.FOLDER / name).read_text(encoding="utf-8") for name in SHARED}
    for template in ("index.html", "look.css"):
        texts[template] = environment.get_template(template).render(samples=drawn, **page)
    files = {name: Asset.named(name, text.encode()) for name, text in texts.items()}
    return files | {one.path: Asset.named(one.path, one.content) for one in drawn}
