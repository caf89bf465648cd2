"""The command `autocaption`, also `python -m autocaption`."""

import runpy
import sys
from pathlib import Path

from autocaption import __version__

PACKAGE = Path(__file__).parent
COMMANDS = {  # name: its script, and what it does
    "train": ("commands/train.py", "train, then test on the best checkpoint"),
    "eval": ("commands/eval.py", "score and compare checkpoints, and captions of any system"),
    "sweep": ("sweep/__main__.py", "report on a sweep; train -m sweep=... starts it"),
    "data": ("data/__main__.py", "download, inspect and check data sets"),
    "caption": ("commands/caption.py", "caption pictures with a checkpoint"),
    "serve": ("serve/__main__.py", "caption pictures in a web page and over HTTP"),
    "export": ("commands/export.py", "a checkpoint as safetensors, or for ONNX Runtime"),
}


def main() -> None:
    """Become the script of the command that sys.argv names.

    So sys.argv and the main module are those of the script, from which jobs, trials and ranks start others.
    """
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print("usage: autocaption COMMAND ...\n")
        for command, (_, does) in COMMANDS.items():
            print(f"  {command:9}{does}")
        print("\nautocaption COMMAND --help says more")
    elif name == "--version":
        print(__version__)
    elif name not in COMMANDS:
        advice = f"take {', '.join(COMMANDS)}"
        if Path(name).exists():  # how pictures were captioned before there were commands
            advice = f"to caption pictures: autocaption caption IMAGE... --checkpoint {name}"
        sys.exit(f"error: there is no command {name}; {advice}")
    else:
        script = str(PACKAGE / COMMANDS[name][0])
        sys.argv = [script, *words]
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
