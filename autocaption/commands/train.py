"""Train, then test on the best checkpoint: `autocaption train --help`."""

from omegaconf import DictConfig

from autocaption.cli import command
from autocaption.launch.signals import undisturbed


def run(config: DictConfig) -> float | None:
    """Run one experiment; returns the metric named by `optimized_metric`."""
    with undisturbed():
        from autocaption import experiment

    return experiment.train(config)


def main() -> None:
    """The command, with the words of sys.argv."""
    command(run, "train")


if __name__ == "__main__":
    main()
