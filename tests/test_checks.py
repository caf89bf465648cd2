"""Values that users choose, checked where they are taken; every number of conf/ with a word in its place."""

import math
from pathlib import Path

import pytest
from helpers.configs import composed, composed_with, plain

from autocaption import build
from autocaption.checks import as_path, choice, number, whole
from autocaption.errors import UserError
from autocaption.exits import one_line_errors

TINY = (
    "logger=csv",
    "data.source.train=4",
    "data.source.val=2",
    "data.source.test=2",
    "tokenizer.min_count=1",
    "data/augment=crop_and_flip",
)
CHOSEN = {  # a choice, and the part of the configuration that it brings
    "logger=csv": "",
    "model=transformer": "model.decoder",
    "model/loss=self_critical": "model.loss",
    "model=show_attend_tell": "model.decoder",
    "model=updown": "model.decoder",
    "model/decoder=language_model": "model.decoder",
    "search=diverse_beam": "search",
    "search=consensus": "search",
    "search=sample": "search",
    "search=greedy": "search",
    "callbacks=ema": "callbacks.ema",
    "callbacks=early_stopping": "callbacks.early_stopping",
}
ELSEWHERE = ("seed", "report.images", "search.seed")  # when a run starts; the last takes any value
NEGATIVE = (  # where -1 means something
    *("search.length_penalty", "trainer.max_epochs", "trainer.max_steps", "trainer.num_sanity_val_steps"),
)


def numbers(value, key=""):
    """The keys of all numbers of a configuration."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from numbers(part, f"{key}.{name}" if key else name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key


CASES = [
    (choice, key)
    for choice, part in CHOSEN.items()
    for key in numbers(plain(composed(*TINY, choice)))
    if key.startswith(part) and key not in ELSEWHERE
]


@pytest.mark.parametrize("value", ["nonsense", -1])
@pytest.mark.parametrize(("choice", "key"), CASES)
def test_a_word_or_a_negative_number_is_one_line(choice, key, value, tmp_path):
    if value == -1 and key in NEGATIVE:
        return
    config = composed_with({"run_dir": str(tmp_path), key: value}, *TINY, choice)

    def start():
        _, captioner = build.from_config(config)
        captioner.optimizer_and_schedule(total_steps=10)
        build.trainer(config)

    with pytest.raises(SystemExit, match=r"^error: ") as ended:
        one_line_errors(start)
    line = str(ended.value)
    assert "traceback" not in line
    assert len(line.splitlines()) == 1
    assert key.rpartition(".")[2] in line or key.partition(".")[0] in line


@pytest.mark.parametrize("value", [0, 11, -1, 1.5, "3", None, True, math.nan])
def test_no_whole_number_in_the_range(value):
    with pytest.raises(UserError, match=r"^a.b=.*: take a whole number, from 1 to 10$"):
        whole("a.b", value, 1, 10)


def test_whole_numbers():
    assert [whole("a.b", value, 1, 10) for value in (1, 10)] == [1, 10]
    assert whole("a.b", 10**12, 0) == 10**12
    with pytest.raises(UserError, match=r"^a.b=null: take a whole number, 0 or more$"):
        whole("a.b", None, 0)


@pytest.mark.parametrize("value", [0, 1.01, -math.inf, math.nan, "0.5", None, True])
def test_no_number_within_the_limits(value):
    with pytest.raises(UserError, match=r"^a.b=.*: take a number, above 0 and at most 1$"):
        number("a.b", value, above=0, at_most=1)


def test_numbers():
    assert number("a.b", 1, above=0, at_most=1) == 1
    assert number("a.b", -1e300) == -1e300
    with pytest.raises(UserError, match=r"^a.b=inf: take a number$"):
        number("a.b", math.inf)
    with pytest.raises(UserError, match=r"^a.b=1: take a number, at least 0 and below 1$"):
        number("a.b", 1, at_least=0, below=1)


def test_words_and_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert choice("a.b", "grid", ("mean", "grid")) == "grid"
    with pytest.raises(UserError, match=r"^a.b=null: take mean or grid$"):
        choice("a.b", None, ("mean", "grid"))
    assert as_path("a.b", "~/x") == Path("/home/me/x")
    assert as_path("a.b", 3) == Path("3")
    with pytest.raises(UserError, match=r"^a.b=null: give a path$"):
        as_path("a.b", None)
    with pytest.raises(UserError, match=r"^a.b=\['x', 'y'\]: give a path$"):
        as_path("a.b", ["x", "y"])
