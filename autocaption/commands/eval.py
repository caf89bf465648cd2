"""Score a checkpoint: `autocaption eval checkpoint=PATH data.split=test search=beam search.beam_size=5`."""

from omegaconf import DictConfig

from autocaption.cli import command


def run(config: DictConfig) -> float | None:
    """Score a checkpoint on a split; returns the metric named by `optimized_metric`."""
    from autocaption import experiment

    return experiment.evaluate(config)


def main() -> None:
    """The command, with the words of sys.argv."""
    command(run, "eval")


if __name__ == "__main__":
    main()
