"""W&B's transaction log: a `.wandb` file with all that a run logged, as protocol buffers.

The format is LevelDB's log after seven bytes of W&B's own: blocks of 32 KiB with pieces of records, each
after its CRC-32, its length and its kind. wandb 0.31 has no Python reader or writer of it.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

START = b":W&B\xe1\xbe\x00"
BLOCK, PIECE = 32 * 1024, struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_log(path: Path) -> Iterator[Any]:
    """The records (wandb_internal_pb2.Record) of a log, up to where a killed process stopped writing.

    Raises:
        ValueError: it is no such log.
    """
    from wandb.proto import wandb_internal_pb2

    new_record: Any = wandb_internal_pb2.Record  # type: ignore[attr-defined]  # its attributes are made at run time
    raw = path.read_bytes()
    if not START[:-1].startswith(raw[: len(START) - 1]):  # the last byte is a version
        raise ValueError(f"not a W&B log: {path}")
    position, parts = len(START), b""
    while position + PIECE.size <= len(raw):
        room = BLOCK - position % BLOCK
        if room < PIECE.size:  # no piece starts at the end of a block
            position += room
            continue
        checksum, size, kind = PIECE.unpack_from(raw, position)
        position += PIECE.size
        piece = raw[position : position + size]
        position += size
        if len(piece) < size or zlib.crc32(piece, zlib.crc32(bytes([kind]))) != checksum:
            return
        parts = piece if kind in (WHOLE, FIRST) else parts + piece
        if kind in (WHOLE, LAST):
            record = new_record()
            record.ParseFromString(parts)
            yield record


def write_log(path: Path, records: Iterable[Any]) -> None:
    """Write a log of these records; they are numbered anew."""
    raw = bytearray(START)
    for number, record in enumerate(records, 1):
        record.num = number
        _append(raw, record.SerializeToString())
    path.write_bytes(raw)


def _append(raw: bytearray, data: bytes) -> None:
    started = False
    while True:
        room = BLOCK - len(raw) % BLOCK
        if room < PIECE.size:
            raw += bytes(room)
            continue
        piece, data = data[: room - PIECE.size], data[room - PIECE.size :]
        kind = (MIDDLE if data else LAST) if started else (FIRST if data else WHOLE)
        raw += PIECE.pack(zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece
        started = True
        if not data:
            return
