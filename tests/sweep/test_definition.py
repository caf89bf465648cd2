"""Whether two commands describe the same study, whatever the order and spelling of their overrides."""

import itertools

import pytest

from autocaption.sweep.definition import difference


def changed(before, after):
    return difference({"fixed": before}, {"fixed": after})


def test_the_order_of_overrides_does_not_matter():
    overrides = ["data=shapes", "seed=1", "optimizer.lr=0.1", "+trainer.benchmark=true", "~callbacks"]
    assert all(changed(overrides, list(one)) is None for one in itertools.permutations(overrides))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["optimizer.lr=1e-1"], ["optimizer.lr=0.1"]),
        (["tags=[a, b]"], ["tags=[a,b]"]),
        (["task_name='x'"], ["task_name=x"]),
        (["seed=1", "seed=2"], ["seed=2"]),
    ],
)
def test_the_spelling_does_not_matter(one, other):
    assert changed(one, other) is None


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (["seed=1"], [], "seed=1 became nothing"),
        (["seed=1", "seed=2"], ["seed=2", "seed=1"], "seed=2 became seed=1"),
        (["a={x:1}", "a.x=2"], ["a.x=2", "a={x:1}"], "a={x:1} a.x=2 became a.x=2 a={x:1}"),
        (["a={x:1}", "a={y:2}"], ["a={y:2}"], "a={x:1} became nothing"),
        (["seed='1'"], ["seed=1"], "seed='1' became seed=1"),
        (["~callbacks"], ["callbacks=none"], "~callbacks became callbacks=none"),
    ],
)
def test_what_has_another_effect_is_named(before, after, words):
    assert changed(before, after) == f"the fixed overrides: {words}"
