"""What rows and means over seeds say together, in metrics.json and in the tables."""

import json

import pytest
from helpers.scoring import images, metrics
from rich.console import Console

from autocaption.evaluation.comparison import Comparisons, Result
from autocaption.evaluation.rows import Row
from autocaption.metrics.bootstrap import Resampled

REFERENCES = [["a dog runs fast on grass", "a brown dog is running"], ["two men sit", "men on a bench"]] * 8
SAID = {
    "small, seed 1": ["a dog", "men"] * 8,
    "small, seed 2": ["a dog runs", "two dogs"] * 8,
    "large, seed 1": ["a dog runs fast on grass", "men sit"] * 8,
    "large, seed 2": ["a brown dog runs", "two men sit"] * 8,
    "theirs": ["a cat", "two men"] * 8,
}


@pytest.fixture(name="scorer", scope="module")
def scorer_of_all():
    return metrics()


def result(scorer, name, captions, references=None):
    scored = scorer.score(images(captions, references or REFERENCES))
    group = name.partition(",")[0] if "seed" in name else None
    return Result(Row(name, group=group), {f"test/{k}": v for k, v in scored.scores().items()}, scored)


@pytest.fixture(name="results", scope="module")
def all_results(scorer):
    return {name: result(scorer, name, captions) for name, captions in SAID.items()}


def text_of(tables):
    console = Console(width=200)
    with console.capture() as capture:
        for table in tables:
            console.print(table)
    return capture.get()


def test_two_experiments_are_compared_by_their_means(results):
    together = Comparisons.of("test", list(results.values()))
    plain = json.loads(json.dumps(together.plain()))
    (entry,) = plain["mean_differences"]
    assert (entry["seeds"], entry["other"]) == ("small", "large")
    small, large = (
        Resampled.mean([Resampled.of(results[f"{group}, seed {seed}"].scored) for seed in (1, 2)])
        for group in ("small", "large")
    )
    expected = small.less(large)["cider"]
    found = entry["metrics"]["test/cider"]
    means = [plain["seeds"][group]["metrics"]["test/cider"]["mean"] for group in ("small", "large")]
    assert found["difference"] == pytest.approx(means[0] - means[1])
    assert (found["interval"], found["p"]) == ([expected.low, expected.high], expected.p)
    shown = together.of_systems()
    assert next(iter(shown.items())) == (("small, mean", "large, mean"), small.less(large))
    assert len(shown) == 1 + len(together.differences)
    text = text_of(together.tables(200))
    assert "difference of means" in text
    assert f"{-expected.difference:+.3f}" in text.partition("difference of means")[2]


def test_one_experiment_has_no_other_mean(results):
    together = Comparisons.of("test", [results[name] for name in SAID if "large" not in name])
    assert together.plain()["mean_differences"] == []
    assert "difference of means" not in text_of(together.tables(200))


def test_a_mean_with_a_seed_on_other_images_is_compared_with_none(results, scorer):
    apart = result(scorer, "large, seed 2", SAID["large, seed 2"][:4], REFERENCES[:4])
    together = Comparisons.of("test", [*(results[name] for name in list(SAID)[:3]), apart])
    assert together.apart() == ["large, seed 2"]
    assert together.plain()["mean_differences"] == []
    assert set(together.means) == {"small", "large"}


def test_rows_without_scores_have_no_table():
    nothing = [Result(Row(name), {"split": "test"}, None) for name in ("one", "other")]
    assert Comparisons.of("test", nothing).tables(80) == []
