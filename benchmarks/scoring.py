"""All metrics without Java, CIDEr-D as a reward, and the bootstrap, on generated captions."""

import time
from collections.abc import Callable

import numpy as np

from autocaption.data.tokenizer import words
from autocaption.metrics.bleu import Bleu
from autocaption.metrics.bootstrap import compare, intervals
from autocaption.metrics.caption_metrics import CaptionMetrics
from autocaption.metrics.cider import Cider, CiderD, CiderTrainDf
from autocaption.metrics.corpus import Generated
from autocaption.metrics.diversity import Diversity, MeanLength, Novel, SelfCider
from autocaption.metrics.ngrams import DocumentFrequencies
from autocaption.metrics.rouge import RougeL
from autocaption.metrics.sentence_bleu import SentenceBleu
from autocaption.metrics.tokenizers import WordsTokenizer
from benchmarks.bleu import BATCH, captions

SAMPLES = 5  # captions an image


def measure(
    *, images: int = 1000, references: int = 5, resamples: int = 1000, rounds: int = 3
) -> dict[str, float]:
    random = np.random.default_rng(0)
    training = [captions(random, references) for _ in range(images)]
    generated = [captions(random, SAMPLES) for _ in range(images)]
    written = [captions(random, references) for _ in range(images)]
    overlap = (Bleu(), Cider(), CiderTrainDf(), RougeL(), SentenceBleu())
    metrics = CaptionMetrics(
        WordsTokenizer(words),
        {type(metric).__name__: metric for metric in (*overlap, MeanLength(), Novel(), SelfCider())},
        {"diversity": Diversity()},
        lambda: training,
    )
    texts = [[caption.split() for caption in image] for image in written]
    scorer = CiderD(texts, DocumentFrequencies.of(texts))
    drawn = [caption.split() for image in generated for caption in image]
    of_image = np.repeat(np.arange(images), SAMPLES)

    def score() -> None:
        metrics.reset()
        for start in range(0, images, BATCH):
            metrics.update(generated[start : start + BATCH], written[start : start + BATCH])
        metrics.compute()

    def reward() -> None:
        size = BATCH * SAMPLES
        for start in range(0, len(drawn), size):
            scorer.score(drawn[start : start + size], of_image[start : start + size])

    pairs = zip(generated, written, strict=True)
    kept = metrics.score([Generated(str(i), *pair) for i, pair in enumerate(pairs)])
    seconds = {task: min(_seconds(task) for _ in range(rounds)) for task in (score, reward)}
    return {
        "seconds of all metrics": seconds[score],
        "CIDEr-D captions/s, references cached": len(drawn) / seconds[reward],
        "seconds of the bootstrap intervals": _seconds(lambda: intervals(kept, resamples)),
        "seconds of a paired bootstrap": _seconds(lambda: compare(kept, kept, resamples)),
    }


def _seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(measure())
