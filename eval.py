"""Score checkpoints or captions: `python eval.py checkpoint=PATH data.split=test search=beam`."""

from omegaconf import DictConfig

from autocaption.cli import command


def main(config: DictConfig) -> float | None:
    """Score what the configuration names on a split; returns the metric named by `optimized_metric`."""
    from autocaption.evaluation.evaluate import evaluate

    return evaluate(config)


if __name__ == "__main__":
    command(main, "eval")
