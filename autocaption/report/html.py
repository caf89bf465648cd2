"""Pages from the templates beside this module: one file each, which opens anywhere.

Everything that a template inserts is escaped. A page holds its styles, scripts and pictures, and its content
security policy forbids all others.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from autocaption.files import write_text

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
    **{f"bleu{n}": f"BLEU-{n}" for n in range(1, 5)},
}


def write_page(file: Path, template: str, **values: Any) -> None:
    """Render a template to a file, whole or not at all."""
    write_text(file, _ENVIRONMENT.get_template(template).render(values))


def number(value: Any) -> str:
    """A value as a reader wants it: floats with five significant digits, None as nothing."""
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else str(value)


def score(value: float) -> str:
    """A metric with three decimals, a large one (perplexity) with one."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def title(metric: str) -> str:
    """A metric's name as papers write it; an unknown one as it is."""
    return NAMES.get(metric, metric.replace("_", " "))


def script(name: str) -> Markup:
    """A script of the templates' folder as an element."""
    return Markup(f"<script>{_read(name)}</script>")


def script_hash(name: str) -> str:
    """How a content security policy names that script."""
    digest = hashlib.sha256(_read(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(number=number, score=score, title=title)
_ENVIRONMENT.globals.update(script=script, script_hash=script_hash)
