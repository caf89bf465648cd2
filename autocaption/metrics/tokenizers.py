"""Evaluation tokenizers: how captions and references are split into words that metrics compare.

Scores under different ones cannot be compared; metrics.json names the one that made them.
"""

import subprocess
from collections.abc import Callable, Sequence

from autocaption.errors import UserError
from autocaption.metrics.java import JAVA, PTB, jar, missing

# What coco-caption deletes after tokenizing.
PUNCTUATION = {
    *(
        "''",
        "'",
        "``",
        "`",
        "-LRB-",
        "-RRB-",
        "-LCB-",
        "-RCB-",
        ".",
        "?",
        "!",
        ",",
        ":",
        "-",
        "--",
        "...",
        ";",
    )
}


class WordsTokenizer:
    """Splits each caption by a rule, as most published results on Karpathy's splits do.

    Args:
        rule: splits a caption into words (data/tokenizer.py).
    """

    def __init__(self, rule: Callable[[str], list[str]]) -> None:
        self.rule, self.name = rule, rule.__name__

    def __call__(self, captions: Sequence[str]) -> list[list[str]]:
        """The words of each caption."""
        return [self.rule(caption) for caption in captions]


class PtbTokenizer:
    """The Penn Treebank rules of coco-caption, by its own jar; a call takes about a second.

    Raises:
        UserError: Java or the jar is missing.
    """

    name = "ptb"

    def __init__(self) -> None:
        if reason := missing(PTB):
            raise UserError(f"metrics/tokenizer=ptb cannot run: {reason}")

    def __call__(self, captions: Sequence[str]) -> list[list[str]]:
        """The words of each caption, in lower case and without punctuation."""
        command = [*JAVA, "-cp", str(jar(PTB)), "edu.stanford.nlp.process.PTBTokenizer"]
        lines = "".join(" ".join(caption.split()) + "\n" for caption in captions)
        done = subprocess.run(
            [*command, "-preserveLines", "-lowerCase", "-encoding", "UTF-8"],
            input=lines.encode("utf-8", "replace"),
            capture_output=True,
        )
        found = done.stdout.decode("utf-8").split("\n")[:-1]
        if done.returncode or len(found) != len(captions):
            reason = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
            raise UserError(
                f"the PTB tokenizer failed after {len(found)} of {len(captions)} captions: {reason}"
            )
        return [[word for word in line.split() if word not in PUNCTUATION] for line in found]
