"""Caption pictures with a checkpoint.

A line a picture: its path, then its captions, best first, separated by tabs; with --json an object a line.
Pictures that cannot be read are named on stderr, and then the exit code is 1.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autocaption.errors import UserError
from autocaption.exits import one_line_errors
from autocaption.inference.picture_files import picture_files
from autocaption.progress import track

if TYPE_CHECKING:
    from autocaption.api import Caption, Prepared

Batch = list[tuple[Path, "Future[Prepared]"]]


def main(argv: Sequence[str] | None = None) -> None:
    """The command; argv are its words, None for those of the process."""
    parser = argparse.ArgumentParser(
        prog="autocaption caption", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Any = parser.add_argument
    add("pictures", nargs="+", metavar="PICTURE", help="a file, a folder, or a pattern such as '*.jpg'")
    add("--checkpoint", required=True, type=Path, help="a file of a run's checkpoints/, or an export")
    add("--k", type=int, default=1, help="captions a picture (1)")
    add(
        "--search",
        help="a file of conf/search: beam, consensus, sample, ... (that of the training)",
    )
    setting = "a setting of the search, such as beam_size=5 or temperature=0.7"
    repeated = {"dest": "settings", "action": "append", "default": [], "type": _setting}
    add("--set", metavar="KEY=VALUE", help=setting, **repeated)
    add(
        "--json",
        dest="as_json",
        action="store_true",
        help="captions with scores and probabilities, as JSON lines",
    )
    add("--batch-size", type=int, default=32, help="pictures computed together (32)")
    add("--device", default="auto", help="cpu, cuda, mps (auto)")
    add("--precision", help="32-true, bf16-mixed, 16-mixed or auto (32-true)")
    arguments = parser.parse_args(argv)
    words = {**vars(arguments), "settings": dict(arguments.settings)}
    broken = one_line_errors(lambda: _until_closed(words))
    sys.exit(1 if broken else 0)


def _until_closed(words: dict[str, Any]) -> int:
    try:
        return caption(**words)
    except BrokenPipeError:  # whoever reads the captions, such as `head`, has enough of them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as of a process that SIGPIPE ends


def caption(
    pictures: Sequence[str],
    checkpoint: Path,
    k: int,
    search: str | None,
    settings: dict[str, Any],
    as_json: bool,
    batch_size: int,
    device: str,
    precision: str | None,
) -> int:
    """Caption pictures in batches; the next batch is decoded meanwhile.

    Returns:
        how many could not be read.
    """
    from autocaption.api import load
    from autocaption.checks import whole
    from autocaption.machine import cores

    whole("--batch-size", batch_size, 1)
    files = picture_files(pictures)
    model = load(checkpoint, device, precision)
    model.caption([], k, search, **settings)  # before any picture, find out whether it can
    line, broken, out = _json_line if as_json else _text_line, 0, sys.stdout  # which a bar redirects
    with ThreadPoolExecutor(cores()) as threads:
        batches = _batches(files, batch_size, lambda file: threads.submit(model.prepare, file))
        if not out.isatty():  # where they would be in each other's way
            batches = track(batches, "Captioning", len(files), len)
        for batch in batches:
            read = []
            for file, future in batch:
                try:
                    read.append((file, future.result()))
                except UserError as error:
                    print(f"error: {error}", file=sys.stderr, flush=True)
                    broken += 1
            found = model.caption([one for _, one in read], k, search, batch_size, **settings)
            for (file, _), captions in zip(read, found, strict=True):
                print(line(file, captions), file=out, flush=True)
    if broken:
        print(f"error: {broken} of {len(files)} pictures could not be read", file=sys.stderr, flush=True)
    return broken


def _batches(files: Sequence[Path], size: int, start: Callable[[Path], Any]) -> Iterator[Batch]:
    """Batches of files that are being decoded, one ahead of the batch that is worked on."""
    ahead: Batch = []
    for first in range(0, len(files), size):
        batch = [(file, start(file)) for file in files[first : first + size]]
        if ahead:
            yield ahead
        ahead = batch
    if ahead:
        yield ahead


def _text_line(file: Path, captions: "Sequence[Caption]") -> str:
    return "\t".join([str(file), *(one.text for one in captions)])


def _json_line(file: Path, captions: "Sequence[Caption]") -> str:
    values = [
        {
            "caption": c.text,
            "score": c.score if math.isfinite(c.score) else None,  # JSON has no -inf
            "probability": c.probability,
        }
        for c in captions
    ]
    text = json.dumps({"image": str(file), "captions": values}, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()  # which JSON reads in a name that is no Unicode


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


if __name__ == "__main__":
    main()
