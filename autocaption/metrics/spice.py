"""SPICE, by its own jar and the user's CoreNLP."""

import json
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autocaption.checks import as_path
from autocaption.errors import UserError
from autocaption.metrics import java
from autocaption.metrics.corpus import Corpus
from autocaption.metrics.scored import mean, with_count

NEWEST = 14  # Java that brings the JavaScript engine through which SPICE's jar writes its scores
ENGINE = "META-INF/services/javax.script.ScriptEngineFactory"  # in a jar that has one


def spice(corenlp: str | None) -> "Spice | None":
    """SPICE, or None and a line in the log where Java or a jar is missing, or Java is too new.

    Args:
        corenlp: the folder with stanford-corenlp-3.6.0.jar and its models; for Java 15 and newer also with
            the jar of a JavaScript engine, as Rhino's or Nashorn's.

    Raises:
        UserError: the folder has no such jar.
    """
    reason = java.missing(java.SPICE) or (corenlp is None and "no folder with CoreNLP 3.6.0 is named")
    if not reason:
        folder = as_path("metrics.image_metrics.spice.corenlp", corenlp)
        if len(list(folder.glob("stanford-corenlp-*.jar"))) < 2:
            raise UserError(
                f"no CoreNLP in {folder}; SPICE needs stanford-corenlp-3.6.0.jar and its models there"
            )
        if (version := java.major_version()) <= NEWEST or _has_engine(folder):
            return Spice(folder)
        reason = (
            f"its jar needs Java 8 to {NEWEST}, and `java` is Java {version}; with the jar of a JavaScript "
            f"engine (Rhino, Nashorn) in {folder} it runs there, too"
        )
    java.say_left_out("SPICE", reason)
    return None


class Spice:
    """Mean SPICE F-score (Anderson et al. 2016), as coco-caption runs it."""

    names = ("spice",)

    def __init__(self, corenlp: Path) -> None:
        jar = java.jar(java.SPICE)
        self.classes = os.pathsep.join([str(jar), f"{jar.parent}/lib/*", f"{corenlp}/*"])

    def statistics(self, corpus: Corpus) -> NDArray:
        """Score and 1 of each image."""
        asked = [
            {"image_id": i, "test": " ".join(caption), "refs": [" ".join(words) for words in references]}
            for i, (caption, references) in enumerate(zip(corpus.captions, corpus.references, strict=True))
        ]
        with tempfile.TemporaryDirectory() as folder:
            given, found = Path(folder, "captions.json"), Path(folder, "scores.json")
            given.write_text(json.dumps(asked))
            command = [*java.JAVA, "-Xmx8G", "-cp", self.classes, "edu.anu.spice.SpiceScorer", str(given)]
            done = subprocess.run(
                [*command, "-out", str(found), "-subset", "-silent"], capture_output=True, text=True
            )
            if done.returncode or not found.is_file():
                raise UserError(f"SPICE's jar failed: {_reason(done.stdout + done.stderr) or 'no message'}")
            scores = {row["image_id"]: row["scores"]["All"]["f"] for row in json.loads(found.read_text())}
        return with_count(np.array([scores[i] for i in range(len(asked))], np.float64))

    def scores(self, sums: NDArray) -> dict[str, NDArray]:
        """`spice`, between 0 and 1."""
        return {"spice": mean(sums)}


def _has_engine(folder: Path) -> bool:
    """Whether a jar there offers a JavaScript engine."""
    jars = [path for path in folder.glob("*.jar") if zipfile.is_zipfile(path)]
    return any(ENGINE in zipfile.ZipFile(path).namelist() for path in jars)


def _reason(said: str) -> str:
    """The lines that say why: from the first that names an error, without the places in the code."""
    lines = [line.strip() for line in said.splitlines() if not line.startswith("\tat ")]
    first = next((i for i, line in enumerate(lines) if "Error" in line or "Exception" in line), len(lines))
    return " ".join(lines[first : first + 2])
