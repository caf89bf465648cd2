"""The token files of Flickr8k and Flickr30k: lines of `name.jpg#k<TAB>caption`."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from autocaption.data.sources.listing import required
from autocaption.data.texts import picture_name, printable, read_lines
from autocaption.errors import UserError


def read_token_file(file: Path) -> Mapping[str, tuple[str, ...]]:
    """The captions of each picture, in order of k.

    Raises:
        UserError: names the line that is none of these, or says that there is none.
    """
    captions: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, line in read_lines(file):
        key, tab, caption = line.partition("\t")
        name, _, k = key.strip().rpartition("#")
        name = picture_name(name)
        if not (tab and name and k.isascii() and k.isdecimal() and len(k) < 10 and caption.strip()):
            raise UserError(
                f"{file}, line {number}: expected 'name.jpg#k<TAB>caption', found '{printable(line, 60)}'"
            )
        captions[name].append((int(k), caption))
    in_order = {name: tuple(text for _, text in sorted(texts)) for name, texts in captions.items()}
    return required(in_order, file)
