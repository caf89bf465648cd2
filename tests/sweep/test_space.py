"""The search space: Hydra's sweep syntax, and the merge of configuration and command line."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from autocaption.errors import UserError
from autocaption.sweep.space import as_overrides, read_space

SYNTAX = {
    "interval(0.1, 2)": FloatDistribution(0.1, 2),
    "tag(log, interval(1e-4, 1e-2))": FloatDistribution(1e-4, 1e-2, log=True),
    "int(interval(1, 8))": IntDistribution(1, 8),
    "tag(log, int(interval(1, 8)))": IntDistribution(1, 8, log=True),
    "range(1, 4)": IntDistribution(1, 3),
    "range(0, 9, step=4)": IntDistribution(0, 8, step=4),
    "range(0.5, 2, step=0.5)": FloatDistribution(0.5, 1.5, step=0.5),
    "choice(1, 2.5, true)": CategoricalDistribution([1, 2.5, True]),
    "choice([1,2], {a: b}, 'x y')": CategoricalDistribution(["[1,2]", "{a:b}", "'x y'"]),
    "lstm,attention": CategoricalDistribution(["lstm", "attention"]),
}


def space(yaml, *arguments):
    return read_space(yaml, arguments, OverridesParser.create())


@pytest.mark.parametrize(("text", "distribution"), SYNTAX.items())
def test_a_sweep_becomes_its_distribution(text, distribution):
    assert space({}, f"a.b={text}").distributions == {"a.b": distribution}
    if "," not in text.partition("(")[0]:
        assert space({"a.b": text}).distributions == {"a.b": distribution}


def test_the_command_line_wins_over_the_configuration():
    found = space(
        {"a": "interval(0, 1)", "b": "interval(0, 1)", "c": "choice(1, 2)"},
        *(
            "sweep=mine",
            "sweep.n_trials=3",
            "sweep/sampler=random",
            "a=interval(0,2)",
            "b=0.5",
            "d=7",
            "~e",
        ),
    )
    assert found.distributions == {"a": FloatDistribution(0, 2), "c": CategoricalDistribution([1, 2])}
    assert found.fixed == ["b=0.5", "d=7", "~e"]


@pytest.mark.parametrize("text", ["5", "interval(2, 1)", "tag(log, interval(0, 1))", "range(3, 3)"])
def test_a_value_that_is_no_search_space_is_refused(text):
    with pytest.raises(UserError, match="space"):
        space({"a": text})


values = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(values)
def test_a_value_is_the_same_after_the_command_line(value):
    (override,) = OverridesParser.create().parse_overrides(as_overrides({"a": value}))
    assert override.value() == value
    assert type(override.value()) is type(value)


@given(st.text(max_size=12).filter(str.isprintable))
@example("größe")
@example("NaN")
def test_a_choice_is_the_same_after_the_command_line(text):
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    try:
        (given_,) = OverridesParser.create().parse_overrides([f"a={quoted}"])
    except Exception:
        return  # text that Hydra's own quoting can't express
    choices = space({}, f"a=choice({quoted}, other)").distributions["a"].choices
    (again,) = OverridesParser.create().parse_overrides(as_overrides({"a": choices[0]}))
    assert again.value() == given_.value()
