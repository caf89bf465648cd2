"""Score checkpoints or captions: `autocaption eval checkpoint=PATH data.split=test search=beam`."""

from omegaconf import DictConfig

from autocaption.cli import command
from autocaption.launch.signals import undisturbed


def run(config: DictConfig) -> float | None:
    """Score what the configuration names on a split; returns the metric named by `optimized_metric`."""
    with undisturbed():
        from autocaption.evaluation.evaluate import evaluate

    return evaluate(config)


def main() -> None:
    """The command, with the words of sys.argv."""
    command(run, "eval")


if __name__ == "__main__":
    main()
