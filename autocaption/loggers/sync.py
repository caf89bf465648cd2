"""Upload runs that were logged offline: `python -m autocaption.loggers.sync RUN [RUN ...]`.

W&B keeps a log of its own (a segment) for each attempt of a run, and `wandb sync` lets one replace the other
(wandb issue 3841). This command joins the segments to one first: a row of history once, at its step.
"""

import argparse
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autocaption.errors import UserError
from autocaption.exits import one_line_errors
from autocaption.files import write_whole
from autocaption.loggers.wandb_log import read_log, write_log
from autocaption.loggers.wandb_mode import choose_mode

JOINED = "joined"  # in RUN/wandb: the segments as one
ONCE = ("header", "footer", "run", "exit", "preempting", "final")  # records that a log has once


def main() -> None:
    """Join the segments of each run and upload them with `wandb sync`."""
    parser = argparse.ArgumentParser(prog="python -m autocaption.loggers.sync", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run folder")
    parser.add_argument("--project", help="another than the run was logged to")
    parser.add_argument("--entity", help="another user or team")
    parser.add_argument("--join-only", action="store_true", help="upload nothing")
    arguments = parser.parse_args()
    logs = one_line_errors(lambda: [str(log) for run in arguments.runs for log in join(run)])
    if arguments.join_only:
        print(*logs, sep="\n")
        return
    mode = choose_mode("online", offline=False, api_key=None)
    if mode.name != "online":
        sys.exit(f"error: nothing is uploaded: {mode.reason}; see `wandb login`, or WANDB_BASE_URL")
    options = [f"--{name}={value}" for name in ("project", "entity") if (value := getattr(arguments, name))]
    command = [sys.executable, "-m", "wandb", "sync", "--include-synced", "--include-online", *options]
    sys.exit(subprocess.run([*command, *logs]).returncode)


def join(run: Path) -> list[Path]:
    """Join the segments of a run to one log, with all files that it refers to.

    Returns:
        its path; several where the run was resumed under another W&B id.

    Raises:
        UserError: the run has no segment that can be read.
    """
    folder = run / "wandb"
    try:
        segments = [(path, list(read_log(path))) for path in _segments(folder)]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read a W&B log of {run}: {error}; move its folder elsewhere") from None
    by_id: dict[str, list[tuple[Path, list[Any]]]] = {}
    for path, records in segments:
        for name in [one.run.run_id for one in records if _kind(one) == "run"][:1]:  # none: killed at once
            by_id.setdefault(name, []).append((path, records))
    if not by_id:
        raise UserError(f"no W&B log in {run}/wandb; name a run folder that logged to W&B")
    return [_write(run, name, segments) for name, segments in by_id.items()]


def _write(run: Path, name: str, segments: Sequence[tuple[Path, list[Any]]]) -> Path:
    target = run / "wandb" / JOINED / f"run-{name}"
    shutil.rmtree(target, ignore_errors=True)  # of an earlier call, perhaps with fewer segments
    (target / "files").mkdir(parents=True)
    for path, _ in segments:
        _link(path.parent / "files", target / "files")
    joined, bests = [], dict[str, dict[str, float]]()
    for record in _joined([records for _, records in segments]):
        if _kind(record) == "summary":
            _keep_bests(record.summary, bests)
        if _kind(record) != "artifact" or _is_there(record.artifact, run.absolute()):
            joined.append(record)
    log = target / f"run-{name}.wandb"
    write_whole(log, lambda aside: write_log(aside, joined))
    return log


def _segments(folder: Path) -> list[Path]:
    """The logs of a run's attempts, oldest first: their folders are named (offline-)run-TIME-ID."""
    logs = folder.glob("*run-*/*.wandb")
    return sorted(logs, key=lambda path: path.parent.name.removeprefix("offline-"))


def _joined(segments: Sequence[Sequence[Any]]) -> Iterator[Any]:
    rows = _rows(segments)
    for number, records in enumerate(segments):
        for record in records:
            kind = _kind(record)
            if kind == "history":
                if (row := rows.pop((number, _step(record)), None)) is not None:
                    yield row
            elif kind == "run" and number:  # a log has one; what later ones configure comes as an update
                update = type(record)()
                update.config.CopyFrom(record.run.config)
                yield update
            elif (
                kind not in ONCE
                or (kind in ("header", "run") and number == 0)
                or (kind in ("exit", "preempting") and number == len(segments) - 1)
            ):
                yield record


def _rows(segments: Sequence[Sequence[Any]]) -> dict[tuple[int, int], Any]:
    """The history to keep, by segment and step.

    A resumed attempt starts at a checkpoint, so its steps replace those that the one before took after it.
    The step where two attempts meet may have values of both, as where one ended amid a validation.
    """
    kept: dict[tuple[int, int], Any] = {}
    start: tuple[int, int] | None = None  # the first row of later attempts
    for number, records in reversed(list(enumerate(segments))):
        rows = {_step(one): one for one in records if _kind(one) == "history"}
        for step, row in rows.items():
            if start is None or step < start[1]:
                kept[number, step] = row
            elif step == start[1]:
                _add(kept[start], row)
        if rows and (start is None or min(rows) < start[1]):
            start = (number, min(rows))
    return kept


def _add(row: Any, earlier: Any) -> None:
    """Add to a row what only an earlier one of the same step has."""
    names = {tuple(item.nested_key) or (item.key,) for item in row.history.item}
    row.history.item.extend(
        item for item in earlier.history.item if (tuple(item.nested_key) or (item.key,)) not in names
    )


def _keep_bests(summary: Any, bests: dict[str, dict[str, float]]) -> None:
    """Let the lowest and highest values be those of all attempts: each counts its own only."""
    for item in summary.update:
        value = json.loads(item.value_json)
        if not isinstance(value, dict):
            continue
        best = bests.setdefault("/".join([*item.nested_key, item.key]), {})
        for name, choose in (("min", min), ("max", max)):
            if name in value:
                value[name] = best[name] = choose(value[name], best.get(name, value[name]))
        item.value_json = json.dumps(value)


def _is_there(artifact: Any, run: Path) -> bool:
    """Whether an artifact's files are as they were logged; says so if not.

    Files in the run folder are found wherever the folder has been moved.
    """
    for entry in artifact.manifest.contents:
        parts = Path(entry.local_path).parts[1:]
        places = [Path(entry.local_path), *(run.joinpath(*parts[i:]) for i in range(len(parts)))]
        file = next((path for path in places if _digest(path) == entry.digest), None)
        if file is not None:
            entry.local_path = str(file)
        elif entry.local_path:
            print(f"left out: {artifact.type} {artifact.name}, whose {entry.path} has changed since")
            return False
    return True


def _digest(path: Path) -> str:
    """W&B's digest of a file; empty where there is none."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()


def _link(source: Path, target: Path) -> None:
    """Add a folder's files to another's, without copying them where the file system can."""
    for path in source.rglob("*"):
        if not path.is_file():
            continue
        file = target / path.relative_to(source)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        try:
            os.link(path, file)
        except OSError:
            shutil.copyfile(path, file)


def _kind(record: Any) -> str:
    return record.WhichOneof("record_type") or ""


def _step(record: Any) -> int:
    items = (item for item in record.history.item if [*item.nested_key, item.key][0] == "_step")
    return next((int(json.loads(item.value_json)) for item in items), record.history.step.num)


if __name__ == "__main__":
    main()
