"""Reading the text files of data sets, whatever habits wrote them."""

import codecs
import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autocaption.errors import UserError

# UTF-32's little-endian mark starts with UTF-16's.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def printable(value: object, width: int = 200) -> str:
    """A value from a file as an error shows it: cut, and with its line breaks and odd characters escaped."""
    text = str(value)
    text = text if len(text) <= width else text[:width] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def picture_name(name: str) -> str:
    """A picture's name from a text file, in one Unicode normal form and without space around it."""
    return unicodedata.normalize("NFC", name.strip())


def read_text(file: Path) -> str:
    r"""The text of a file: UTF-8, or what a byte order mark says; every line ends with "\n" alone.

    Raises:
        UserError: the file is missing, unreadable, or in another encoding.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"file not found: {printable(file)}; restore it, or check data.root") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {printable(file)}: {printable(error)}") from None
    return decoded(content, file)


def decoded(content: bytes, file: object) -> str:
    """`read_text` of a file's content; errors call it `file`."""
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        advice = "its byte order mark is followed by something else"
        if encoding == "utf-8":
            advice = "it may be Latin-1: convert it with `iconv -f LATIN1 -t UTF-8`"
        kind, byte = encoding.removesuffix("-sig").upper(), content[error.start]
        raise UserError(f"{file} is not {kind}: byte 0x{byte:02x} in line {line}; {advice}") from None
    if "\0" in text:
        raise UserError(
            f"{file} contains NUL characters; if it is UTF-16 without a byte order mark, convert it with "
            "`iconv -f UTF-16LE -t UTF-8`"
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n\ufeff", "\n")  # of files that were concatenated with their marks


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """(number, line) of the lines that aren't blank, as written."""
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if line.strip():
            yield number, line


def read_json(file: Path) -> Any:
    """The value in a JSON file."""
    return parsed_json(read_text(file), file)


def parsed_json(text: str, file: object, where: str = "") -> Any:
    """The value of a JSON text.

    Args:
        text: all of a file, or a part of it.
        file: what errors call it.
        where: what an error adds to the file's name, such as ", line 3".
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        place = where or f", line {error.lineno}"
        raise UserError(f"{file}{place}: not JSON ({error.msg}, column {error.colno})") from None
    except (RecursionError, ValueError) as error:  # nested too deep; a number of too many digits
        raise UserError(f"{file}{where}: not readable JSON ({printable(error)})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; json itself would silently keep the last of several values."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError(f"an object has a key twice: {', '.join(key for key, _ in pairs)}")
    return value


def read_table(file: Path, delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(number of its last line, {column: value}) of each row of a CSV or TSV file with a header.

    Raises:
        UserError: names the line whose quotes or number of fields are wrong.
    """
    # newline="" lets csv see line breaks within quotes as they are.
    rows = csv.reader(io.StringIO(read_text(file), newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for row in rows:
            if not any(map(str.strip, row)):
                continue
            if not header:
                header = [name.strip() for name in row]
                if len(set(header)) < len(header):
                    raise UserError(f"{file}: a column occurs twice in its header {printable(header)}")
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{file}, line {rows.line_num}: {len(row)} fields, but the header has {len(header)} "
                    f"({printable(', '.join(header))}); quote a field that contains {delimiter!r}"
                )
            yield rows.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise UserError(f"{file}, line {rows.line_num}: {error}; check its quotes") from None
