"""The code that a run used, beyond what a commit tells: its changes, and files that git doesn't know yet."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from autocaption.files import write_text
from autocaption.runs.provenance import FILE, hide_lines, starts

SOURCES = ("autocaption", "conf", "hydra_plugins", "train.py", "eval.py")  # beside the package's folder
YAML = ("*.yaml", "*.yml")
FOLDER, PATCH = "code", "changes.patch"
# A patch that `git apply` takes, whatever the user has made of `git diff` (difftastic, colours, no prefixes).
DIFF = ("-c", "diff.noprefix=false", "diff", "--no-ext-diff", "--no-color", "HEAD", "--")
LIMIT = 2_000_000  # bytes of a patch, and of all untracked files together


def git_state(folder: Path) -> dict[str, Any]:
    """The commit that a folder's files belong to, whether files have changed since, and new source files.

    Outside a work tree, or where git ignores the folder (as in a virtual environment), there is no commit.

    Args:
        folder: the one that holds SOURCES.
    """
    tracked = _git(folder, "ls-files", "--", *SOURCES)
    if not tracked:
        return {"commit": None, "changed": False, "untracked": []}
    commit = _git(folder, "rev-parse", "HEAD")
    listed = _git(folder, "ls-files", "-z", "--others", "--exclude-standard", "--", *SOURCES) or ""
    untracked = listed.split("\0")[:-1]  # -z: names as they are, and not "caf\\303\\251.py"
    changed = bool(untracked or _git(folder, "status", "--porcelain", "--", *SOURCES))
    return {"commit": commit.strip() if commit else None, "changed": changed, "untracked": untracked}


def keep_code(folder: Path, run: Path) -> dict[str, Any]:
    """Keep what git doesn't have in the run folder, without secrets; call it before `record_start`.

    Args:
        folder: the one that holds SOURCES.
        run: the run folder; the files lie in its code/<number of the attempt>/.

    Returns:
        the state of git (`git_state`), with the files that were left out since they are too large.
    """
    state = git_state(folder)
    if not state["changed"]:
        return state
    target, left_out, room = run / FOLDER / str(starts(run / FILE) + 1), [], LIMIT
    target.mkdir(parents=True, exist_ok=True)
    patch = _git(folder, *DIFF, *SOURCES, *(f":!{pattern}" for pattern in YAML)) or ""
    patch += hide_lines(_git(folder, *DIFF, *(f"{SOURCES[1]}/{one}" for one in YAML)) or "")
    if len(patch) > LIMIT:
        left_out.append(PATCH)
    elif patch:
        write_text(target / PATCH, patch)
    for name in state["untracked"]:
        source, copy = folder / name, target / name
        size = source.stat().st_size if source.is_file() else LIMIT + 1
        if size > room:
            left_out.append(name)
            continue
        room -= size
        copy.parent.mkdir(parents=True, exist_ok=True)
        if any(source.match(pattern) for pattern in YAML):
            write_text(copy, hide_lines(source.read_text(encoding="utf-8", errors="replace")))
        else:
            shutil.copyfile(source, copy)
    return {**state, "left_out": left_out}


def kept_code(run: Path) -> Path | None:
    """What the latest attempt of a run kept; None where its commit tells everything."""
    kept = run / FOLDER / str(starts(run / FILE))
    return kept if kept.is_dir() else None


def _git(folder: Path, *words: str) -> str | None:
    """What git prints; None where it fails or is missing."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
