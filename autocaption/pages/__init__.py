"""What all HTML pages share: frame, look, and the rule that a page is one file which opens anywhere.

Everything that a template inserts is escaped. A page holds its styles, scripts and pictures, and its content
security policy forbids all others. A template extends `base.html`, which lies beside this module.
"""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent


def environment(templates: Path) -> Environment:
    """An environment of the templates and scripts in a folder, and of those that all pages share.

    Templates may call `script(name)` for a script as an element, and `script_hash(name)` for how a content
    security policy names it.
    """
    folders = [templates, FOLDER]
    pages = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def read(name: str) -> str:
        file = next(folder / name for folder in folders if (folder / name).exists())
        return file.read_text(encoding="utf-8")

    def script(name: str) -> Markup:
        return Markup(f"<script>{read(name)}</script>")

    def script_hash(name: str) -> str:
        digest = hashlib.sha256(read(name).encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    pages.globals.update(script=script, script_hash=script_hash)
    return pages
