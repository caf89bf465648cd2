"""Corpus BLEU-1..4 against nltk's, on generated captions; the two must agree."""

import time

import numpy as np
from nltk.translate.bleu_score import corpus_bleu

from autocaption.metrics.corpus_bleu import CorpusBleu
from benchmarks.generated import LENGTHS

BATCH = 32  # captions an update, as in validation
WEIGHTS = [(1.0,), (1 / 2,) * 2, (1 / 3,) * 3, (1 / 4,) * 4]


def captions(random: np.random.Generator, count: int) -> list[str]:
    """Captions of few words with unequal frequencies, so that n-grams of every order match.

    Each has at least four words: nltk credits a shorter caption with an n-gram that it doesn't have.
    """
    lengths = 1 + random.choice(len(LENGTHS), count, p=np.array(LENGTHS) / sum(LENGTHS)).clip(3)
    return [" ".join(f"w{i}" for i in random.geometric(0.25, length)) for length in lengths]


def ours(generated: list[str], references: list[list[str]]) -> list[float]:
    metric = CorpusBleu(n_gram=4)
    for start in range(0, len(generated), BATCH):
        metric.update(generated[start : start + BATCH], references[start : start + BATCH])
    return [value.item() for value in metric.compute().values()]


def theirs(generated: list[str], references: list[list[str]]) -> list[float]:
    split = [[text.split() for text in texts] for texts in references]
    return corpus_bleu(split, [text.split() for text in generated], WEIGHTS)


def measure(*, images: int = 1000, references: int = 5, rounds: int = 3) -> dict[str, float]:
    random = np.random.default_rng(0)
    generated = captions(random, images)
    written = [captions(random, references) for _ in range(images)]
    seconds: dict = {ours: [], theirs: []}
    scores = {}
    for _ in range(rounds):
        for score in (ours, theirs):
            start = time.perf_counter()
            scores[score] = score(generated, written)
            seconds[score].append(time.perf_counter() - start)
    np.testing.assert_allclose(scores[ours], scores[theirs], atol=1e-6)
    fast, slow = min(seconds[ours]), min(seconds[theirs])
    return {"seconds": fast, "seconds of nltk": slow, "times nltk": slow / fast}


if __name__ == "__main__":
    print(measure())
