"""Report on a sweep, also while it runs: `python -m autocaption.sweep report STUDY`."""

import argparse

from autocaption.exits import one_line_errors


def main() -> None:
    """Write the sweep's report and print its path."""
    parser = argparse.ArgumentParser(prog="python -m autocaption.sweep", description=__doc__)
    commands = parser.add_subparsers(required=True)
    report = commands.add_parser("report", help="write report.html, trials.json and experiment/best.yaml")
    report.add_argument("study", help="the sweep's folder, or the study's name if it lies in runs/sweeps")
    report.add_argument("--storage", help="the storage's URL, if it needs a password")
    arguments = parser.parse_args()
    one_line_errors(lambda: write(arguments.study, arguments.storage))


def write(study: str, storage: str | None) -> None:
    """Write the report of a study (its folder or name) and print its path."""
    from autocaption.sweep.study import find_study
    from autocaption.sweep.summary import write_report

    print(write_report(*find_study(study, storage)))


if __name__ == "__main__":
    main()
