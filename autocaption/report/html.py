"""Pages of metrics, from the templates beside this module."""

from pathlib import Path
from typing import Any

from autocaption.files import write_text
from autocaption.pages import environment

TEMPLATES = Path(__file__).parent / "templates"
NAMES = {
    "cider": "CIDEr-D",
    "cider_train_df": "CIDEr-D, df of train",
    "meteor": "METEOR",
    "spice": "SPICE",
    "rouge": "ROUGE-L",
    "rougel": "ROUGE-L",
    "rouge_l": "ROUGE-L",
    "perplexity": "Perplexity",
    "loss": "Loss",
    "mean_length": "Mean length",
    "novel": "Novel captions",
    "distinct1": "Distinct-1",
    "distinct2": "Distinct-2",
    "vocabulary": "Words used",
    "most_frequent": "Most frequent caption",
    "self_cider": "Self-CIDEr",
    **{f"bleu{n}": f"BLEU-{n}" for n in range(1, 5)},
}


def write_page(file: Path, template: str, **values: Any) -> None:
    """Render a template to a file, whole or not at all."""
    write_text(file, _ENVIRONMENT.get_template(template).render(values))


def number(value: Any) -> str:
    """A value as a reader wants it: floats with five significant digits, None as nothing."""
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else str(value)


def score(value: float, like: float | None = None) -> str:
    """A metric with three decimals, one from 10 on, none from 100 on; as many as another value if given."""
    size = abs(value if like is None else like)
    return f"{value:,.{3 if size < 10 else 1 if size < 100 else 0}f}"


def title(metric: str) -> str:
    """A metric's name as papers write it; an unknown one as it is."""
    return NAMES.get(metric, metric.replace("_", " "))


_ENVIRONMENT = environment(TEMPLATES)
_ENVIRONMENT.filters.update(number=number, score=score, title=title)
