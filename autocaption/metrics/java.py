"""Java, and the jars that pycocoevalcap brings along."""

import functools
import logging
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

PTB = "tokenizer/stanford-corenlp-3.4.1.jar"
METEOR = "meteor/meteor-1.5.jar"
SPICE = "spice/spice-1.0.jar"
JAVA = ["java", "-Dfile.encoding=UTF-8"]  # whatever the locale

log = logging.getLogger(__name__)


def jar(name: str) -> Path:
    """Where a jar lies; only valid if nothing is `missing`."""
    found = find_spec("pycocoevalcap")
    folders = found.submodule_search_locations if found else None
    return Path((folders or ["pycocoevalcap"])[0], name)


def missing(name: str) -> str | None:
    """What a jar lacks to be run, and how to get it; None for nothing."""
    if shutil.which("java") is None:
        return "there is no `java`; install a Java runtime"
    if not jar(name).is_file():
        return "there is no pycocoevalcap; pip install 'autocaption[coco]'"
    return None


@functools.cache  # once, however many rows an evaluation has
def say_left_out(metric: str, reason: str) -> None:
    """Log that a metric is left out, and why."""
    log.warning("%s is left out: %s", metric, reason)


def major_version() -> int:
    """Java's: 8, 11, 17."""
    said = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else 0
