"""What makes the trials of a study comparable, and how one command's differs from another's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from autocaption.sweep.space import as_text

LABELS = {
    "space": "the search space",
    "custom_space": "the custom search space",
    "objective": "the objective",
    "direction": "the direction",
    "fixed": "the fixed overrides",
}


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first difference in words; None if the trials of both are comparable.

    Args:
        found: plain values by the keys of LABELS; `fixed` is a list of overrides.
        wanted: likewise.
    """
    for key, label in LABELS.items():
        before: Any = found.get(key)
        after: Any = wanted.get(key)
        change: Callable[[Any, Any], str] = _change
        if key == "fixed":
            before, after, change = canonical(before or []), canonical(after or []), _change_of_overrides
        if before != after:
            return f"{label}: {change(before, after)}"
    return None


def canonical(overrides: Sequence[str]) -> list[str]:
    """Overrides in an order and a spelling that are the same for all command lines of the same effect.

    Those of one key, or of a key and one within it, keep their order, since there the later one counts.
    """
    left = OverridesParser.create().parse_overrides(list(overrides))
    left = [one for i, one in enumerate(left) if not any(_replaces(later, one) for later in left[i + 1 :])]
    ordered = []
    while left:
        free = [one for i, one in enumerate(left) if not any(_overlap(one, two) for two in left[:i])]
        first = min(free, key=_spelled)
        ordered.append(_spelled(first))
        left.remove(first)
    return ordered


def _spelled(override: Override) -> str:
    if override.is_delete():
        return str(override.input_line)
    value = override.value()
    text = as_text(value) if isinstance(value, str) else override.get_value_element_as_str()
    return f"{override.get_key_element()}={text}"


def _replaces(later: Override, earlier: Override) -> bool:
    same = later.get_key_element() == earlier.get_key_element()
    return same and not later.is_delete() and not isinstance(later.value(), dict)  # dictionaries are merged


def _overlap(one: Override, two: Override) -> bool:
    a, b = (f"{override.key_or_group.replace('/', '.')}." for override in (one, two))
    return a.startswith(b) or b.startswith(a)


def _change(before: Any, after: Any) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        return ", ".join(sorted(k for k in {**before, **after} if before.get(k) != after.get(k)))
    return f"{before} became {after}"


def _change_of_overrides(before: list[str], after: list[str]) -> str:
    gone = [one for one in before if one not in after]
    new = [one for one in after if one not in before]
    if not gone and not new:  # overrides of one key, in another order
        gone, new = before, after
    return f"{' '.join(gone) or 'nothing'} became {' '.join(new) or 'nothing'}"
