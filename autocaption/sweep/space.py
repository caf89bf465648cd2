"""The search space: Hydra's sweep syntax as Optuna distributions."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    Transformer,
)
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from autocaption.errors import UserError

# Maps (base configuration, trial) to values by key; may call trial.suggest_float(name, low, high) and so on.
CustomSpace = Callable[[DictConfig, Any], Mapping[str, Any] | None]

# A string that needs no quotes in Hydra's syntax, except the reserved ones.
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_RESERVED = ("true", "false", "null", "nan", "inf")


@dataclass(frozen=True)
class Space:
    """The search space, and the overrides that all trials have.

    Attributes:
        distributions: by key as on the command line (`optimizer.lr`, `model/decoder`, `+new.key`).
        fixed: the overrides that all trials have, as typed.
    """

    distributions: dict[str, BaseDistribution]
    fixed: list[str]

    def as_json(self) -> dict[str, str]:
        """The distributions as JSON, to compare with an earlier command's."""
        return {key: distribution_to_json(one) for key, one in sorted(self.distributions.items())}


def read_space(space: Mapping[str, str], arguments: Iterable[str], parser: OverridesParser) -> Space:
    """Merge `sweep.space` with the overrides of the command line.

    The command line wins: its interval or choice replaces that of `sweep.space`, and a key to which it gives
    one value is not searched. Overrides of the sweep itself (`sweep=...`, `sweep.n_trials=...`) are left out.

    Args:
        space: `sweep.space`: Hydra's sweep syntax by key.
        arguments: the overrides of the command line.
        parser: Hydra's.

    Raises:
        UserError: `sweep.space` has a single value, or a sweep has no counterpart in Optuna.
    """
    distributions = {}
    for key, text in space.items():
        (override,) = parser.parse_overrides([f"{key}={text}"])
        if not override.is_sweep_override():
            raise UserError(
                f"sweep.space: {key}={text} is one value; take interval(LOW, HIGH), choice(A, B), "
                f"range(START, STOP), or give {key}={text} on the command line"
            )
        distributions[key] = _distribution(override)
    fixed = []
    for override in parser.parse_overrides(list(arguments)):
        if override.key_or_group.replace("/", ".").split(".")[0] == "sweep":
            continue
        key = override.get_key_element()
        distributions.pop(key, None)
        if override.is_sweep_override():
            distributions[key] = _distribution(override)
        else:
            assert override.input_line is not None
            fixed.append(override.input_line)
    return Space(distributions, fixed)


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """KEY=VALUE for each value; a string is taken as Hydra syntax already."""
    return [f"{key}={value if isinstance(value, str) else as_text(value)}" for key, value in values.items()]


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override.value()
    if override.is_range_sweep() and not value.shuffle:
        return _range(value)
    if override.is_discrete_sweep():
        return CategoricalDistribution([_choice(one) for one in override.sweep_iterator()])
    try:
        return _interval(value)
    except ValueError as error:
        raise UserError(f"search space {override.input_line}: {error}") from error


def _range(value: RangeSweep) -> BaseDistribution:
    values = list(value.range())  # Hydra excludes the end, Optuna includes it
    if not values:
        raise UserError(f"search space range({value.start}, {value.stop}): it is empty")
    if all(isinstance(one, int) for one in values):
        return IntDistribution(min(values), max(values), step=abs(int(value.step)))
    return FloatDistribution(min(values), max(values), step=abs(value.step))


def _interval(value: IntervalSweep) -> BaseDistribution:
    assert value.start is not None
    assert value.end is not None
    log = "log" in value.tags
    if "int" in value.tags or (isinstance(value.start, int) and isinstance(value.end, int)):
        return IntDistribution(int(value.start), int(value.end), log=log)
    return FloatDistribution(value.start, value.end, log=log)


def _choice(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float) else as_text(value)


def as_text(value: Any) -> str:
    """A value in Hydra's syntax; a string gets quotes if it would be read as something else without them."""
    if isinstance(value, bool):
        return str(value).lower()
    text = Transformer.str(value)
    if isinstance(value, str) and (
        not value or _PLAIN.fullmatch(value) is None or value.lower() in _RESERVED
    ):
        return QuotedString(value, Quote.single).with_quotes()
    return text
