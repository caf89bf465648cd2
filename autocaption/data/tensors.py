"""Dataclasses of tensors."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


def mapped(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """A copy of a dataclass with every tensor in it, and in dataclasses within it, changed."""
    changed: Any = value
    if isinstance(value, Tensor):
        changed = change(value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {one.name: mapped(getattr(value, one.name), change) for one in fields(value)}
        changed = replace(value, **parts)
    return changed
