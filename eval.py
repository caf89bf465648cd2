"""Score a checkpoint: `python eval.py checkpoint=PATH data.split=test search=beam search.beam_size=5`."""

from omegaconf import DictConfig

from autocaption.cli import command


def main(config: DictConfig) -> float | None:
    """Score a checkpoint on a split; returns the metric named by `optimized_metric`."""
    from autocaption import experiment

    return experiment.evaluate(config)


if __name__ == "__main__":
    command(main, "eval")
