"""Train, then test on the best checkpoint: `python train.py --help`."""

from omegaconf import DictConfig

from autocaption.cli import command


def main(config: DictConfig) -> float | None:
    """Run one experiment; returns the metric named by `optimized_metric`."""
    from autocaption import experiment

    return experiment.train(config)


if __name__ == "__main__":
    command(main, "train")
