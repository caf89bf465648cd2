"""Data sets: download, inspect and check them.

python -m autocaption.data download flickr8k --root DIR
python -m autocaption.data inspect data=flickr8k data.root=DIR
python -m autocaption.data check data=flickr8k data.root=DIR
"""

import argparse
import base64
import io
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate
from markupsafe import Markup
from omegaconf import DictConfig
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue
from PIL import Image
from rich.console import Console
from rich.table import Table

from autocaption.checks import as_path, with_home
from autocaption.data import downloads
from autocaption.data.broken_pictures import broken_pictures
from autocaption.data.inspection import SHOWN, inspected
from autocaption.data.manifest import Manifest
from autocaption.data.sources import SPLITS, CaptionedImage, Source
from autocaption.errors import UserError
from autocaption.exits import one_line_errors
from autocaption.files import conf_folder, write_text
from autocaption.known_keys import require_read
from autocaption.mistakes import of_hydra
from autocaption.pages import environment

PACKAGE = Path(__file__).parents[1]


def main(words: Sequence[str] | None = None) -> None:
    """The command; a user's mistake is one line on stderr and exit code 1."""
    parser = argparse.ArgumentParser(
        prog="python -m autocaption.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    download = commands.add_parser("download", help="fetch a data set, and go on after an interruption")
    download.add_argument("name", choices=sorted(downloads.ARCHIVES))
    download.add_argument("--root", required=True, help="the folder to unpack into")
    inspect = commands.add_parser(
        "inspect", help="captions, words, pictures and duplicates, as tables and a page"
    )
    inspect.add_argument("--page", type=Path, default=Path("data.html"), help="the HTML page (data.html)")
    check = commands.add_parser("check", help="decode every picture, and list those that are broken")
    for command in (inspect, check):
        command.add_argument("overrides", nargs="*", metavar="data=...", help="as for train.py")
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    one_line_errors(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "download":
        downloads.download(arguments.name, as_path("--root", arguments.root))
    elif arguments.command == "inspect":
        _inspect(_composed(arguments.overrides), arguments.page)
    else:
        sys.exit(_check(_source(_composed(arguments.overrides))))


def _composed(overrides: Sequence[str]) -> DictConfig:
    require_read(overrides)
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return compose("train", with_home(overrides))
    except HydraException as error:
        raise UserError(f"{of_hydra(error)}; `train.py --help` lists groups and choices") from None


def _source(config: DictConfig) -> Source:
    try:
        return instantiate(config.data.source)
    except (MissingMandatoryValue, InterpolationToMissingValueError):
        raise UserError(
            "no value for data.root; give it with data.root=DIR, or set AUTOCAPTION_DATA"
        ) from None


def _check(source: Source) -> int:
    """Print what is broken in each split; 1 where something is."""
    console, total = Console(), 0
    table = Table("split", "images", "broken", "named otherwise")
    for split in SPLITS:
        images = source.split(split)
        broken = broken_pictures(source, images, Manifest(None))
        for one in broken:
            console.print(one.error, soft_wrap=True, highlight=False, markup=False)
        misnamed = [text for text in map(_misnamed, images) if text]
        for text in misnamed:
            console.print(text, soft_wrap=True, highlight=False, markup=False)
        table.add_row(split, f"{len(images):,}", f"{len(broken):,}", f"{len(misnamed):,}")
        total += len(broken)
    console.print(table)
    return 1 if total else 0


def _misnamed(image: CaptionedImage) -> str | None:
    """What is said of a picture whose content is of another format than its name."""
    if image.path is None or not image.path.suffix:
        return None
    try:
        file = image.path if isinstance(image.path, Path) else io.BytesIO(image.path.read_bytes())
        with Image.open(file) as opened:
            content = opened.format
    except Exception:  # it is broken, and listed as such
        return None
    named = Image.registered_extensions().get(image.path.suffix.lower())
    return (
        None if content in (named, "MPO") else f"another format than its name: {image.path} holds {content}"
    )


def _inspect(config: DictConfig, page: Path) -> None:
    if not page.parent.is_dir():  # said now, since to read all pictures may take long
        raise UserError(f"--page={page}: there is no folder {page.parent}")
    source = _source(config)
    facts = inspected(source, instantiate(config.tokenizer).normalize)
    console = Console()
    for table in _tables(facts):
        console.print(table)
    content = (
        environment(PACKAGE / "data")
        .get_template("inspection.html")
        .render(
            title=str(config.data.get("root") or "shapes"),
            shown=SHOWN,
            thumbnail=lambda image: _thumbnail(source, image),
            **facts,
        )
    )
    write_text(page, content)
    console.print(f"page: {page}", soft_wrap=True, highlight=False)


def _tables(facts: Mapping[str, Any]) -> list[Table]:
    splits = Table("split", "images", "captions", "captions an image", "words a caption", title="Splits")
    for split, one in facts["splits"].items():
        least, most = one["captions an image"]
        many = f"{least}" if least == most else f"{least} to {most}"
        splits.add_row(
            split, f"{one['images']:,}", f"{one['captions']:,}", many, f"{one['words a caption']:.2f}"
        )
    vocabulary = Table("min_count", "words", *(f"<unk> in {split}" for split in SPLITS), title="Vocabulary")
    for row in facts["vocabulary"]:
        shares = (f"{100 * row['unknown'][split]:.2f} %" for split in SPLITS)
        vocabulary.add_row(str(row["min_count"]), f"{row['words']:,}", *shares)
    captions, other = facts["captions"], Table("", "", title="Captions and pictures", show_header=False)
    other.add_row("words a caption", f"mean {captions['mean']:.2f}, mode {captions['mode']}")
    other.add_row(
        "most frequent words", ", ".join(f"{word} {count:,}" for word, count in captions["words"][:SHOWN])
    )
    other.add_row("captions that occur several times", f"{captions['repeated']:,}")
    for side in ("width", "height"):
        if side in facts["sizes"]:
            other.add_row(f"{side}: least, median, most", ", ".join(map(str, facts["sizes"][side])))
    for name, key in (("same pixels", "identical"), ("nearly the same", "similar")):
        pairs = facts[key]
        across = sum(pair.one.split != pair.other.split for pair in pairs)
        other.add_row(f"pairs of pictures: {name}", f"{len(pairs):,}, of which in two splits {across:,}")
    other.add_row("broken pictures", f"{len(facts['broken']):,}")
    return [splits, vocabulary, other]


def _thumbnail(source: Source, image: CaptionedImage) -> Markup:
    try:
        picture = source.read(image, 160)
    except UserError:
        return Markup("")
    picture.thumbnail((160, 120))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    data = base64.b64encode(stream.getvalue()).decode()
    return Markup('<img alt="" src="data:image/jpeg;base64,{}">').format(data)


if __name__ == "__main__":
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    main()
