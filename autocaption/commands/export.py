"""Export a checkpoint: a folder to hand on, or to upload to a model hub.

safetensors   model.safetensors, config.json and a model card, for autocaption.load(DIR)
onnx          graphs for ONNX Runtime, and caption.py, which needs neither torch nor autocaption
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from autocaption.checks import as_path
from autocaption.exits import one_line_errors


def main(argv: Sequence[str] | None = None) -> None:
    """The command; argv are its words, None for those of the process."""
    parser = argparse.ArgumentParser(
        prog="autocaption export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, type=Path, help="a file of a run's checkpoints/")
    parser.add_argument("--format", required=True, choices=("safetensors", "onnx"))
    parser.add_argument("--output", required=True, metavar="DIR", help="made if it isn't there")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="onnx: 8-bit weights of matrix products; what that costs, DIR/caption.py --output FILE and "
        "eval.py captions=FILE tell",
    )
    arguments = parser.parse_args(argv)
    if arguments.int8 and arguments.format != "onnx":
        parser.error("--int8 is for --format onnx")
    one_line_errors(lambda: export(**vars(arguments)))


def export(checkpoint: Path, format: str, output: str, int8: bool) -> None:
    """Write the folder and say where it is."""
    from autocaption.export.folders import export_onnx, export_safetensors

    folder = as_path("--output", output)
    if format == "onnx":
        export_onnx(checkpoint, folder, int8)
    else:
        export_safetensors(checkpoint, folder)
    for file in sorted(filter(Path.is_file, folder.iterdir())):
        print(f"{file}  {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
