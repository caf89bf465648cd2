"""Which images a report picks out."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autocaption.randomness import seed_of
from autocaption.report.system import System

# What people look at first; other metrics follow in their own order.
FIRST = ("cider", "bleu4", "rouge_l", "rougel", "rouge", "meteor", "spice", "bleu1", "perplexity")
PICKED, DIFFERING = 8, 8  # images of each kind of example, and of those that systems differ on


@dataclass(frozen=True)
class Picks:
    """Ids of the images that a report shows before all others.

    Attributes:
        examples: those of each heading.
        differing: where the systems' scores are furthest apart, the furthest first.
    """

    examples: dict[str, list[str]]
    differing: list[str]

    @property
    def all(self) -> list[str]:
        """Each of them once."""
        return list(dict.fromkeys([*self.differing, *(id for ids in self.examples.values() for id in ids)]))


def picks(systems: Sequence[System], captioned: Sequence[str], metric: str | None) -> Picks:
    """The best and worst of the first system, some at random, and those that systems differ on.

    Args:
        systems: at least one.
        captioned: ids of the images to pick from.
        metric: what scores them; None to pick at random only.
    """
    best: list[str] = []
    differing: list[str] = []
    if metric is not None:
        known = set(captioned)
        best = [id for id in ranked(systems[0].scores(metric)) if id in known]
        speaking = [system for system in systems if system.sentences]
        apart = differences(speaking, metric) if len(speaking) > 1 else {}
        differing = [id for id in ranked(apart) if id in known and apart[id] > 0][:DIFFERING]
    count = min(PICKED, len(best) // 2)
    examples = {
        "Best": best[:count],
        "Worst": best[len(best) - count :][::-1],
        "Random": drawn(captioned, PICKED),
    }
    return Picks({heading: ids for heading, ids in examples.items() if ids}, differing)


def by_importance(metrics: Sequence[str]) -> list[str]:
    """Names of metrics, those that people look at first in front."""
    return sorted(metrics, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def sentence_metrics(systems: Sequence[System]) -> list[str]:
    """The metrics that score single captions of any of the systems, by importance."""
    names = {
        name: None for system in systems for sentence in system.sentences.values() for name in sentence.scores
    }
    return by_importance(list(names))


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Image ids from the highest score to the lowest; equal scores stay in order."""
    return sorted(scores, key=lambda id: -scores[id])


def differences(systems: Sequence[System], metric: str) -> dict[str, float]:
    """{image id: highest less lowest score} of the images that every system has a score of."""
    each = [system.scores(metric) for system in systems]
    found = {id: [scores[id] for scores in each] for id in each[0] if all(id in scores for scores in each)}
    return {id: max(values) - min(values) for id, values in found.items()}


def drawn(ids: Sequence[str], count: int) -> list[str]:
    """As many of the ids at random, the same ones each time."""
    return random.Random(seed_of("report", *ids)).sample(list(ids), min(count, len(ids)))


def spread(ids: Sequence[str], kept: Sequence[str], count: int | None) -> list[str]:
    """At most `count` ids in their order: those to keep, and others spread evenly over the rest."""
    if count is None or len(ids) <= count:
        return list(ids)
    chosen = set(kept)
    others = [id for id in ids if id not in chosen]
    wanted = max(0, min(count - len(chosen), len(others)))
    chosen |= {others[i * len(others) // wanted] for i in range(wanted)}
    return [id for id in ids if id in chosen]
