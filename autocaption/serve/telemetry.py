"""What Prometheus reads of the service."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest


class Telemetry:
    """Counts of one service, in a registry of its own.

    Args:
        in_work: how many requests are being answered.
    """

    def __init__(self, in_work: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.answers = Counter(
            "autocaption_answers",
            "Answers to caption requests, by status.",
            ["status"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "autocaption_answer_seconds",
            "Seconds from a caption request to its answer.",
            buckets=(0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self._registry,
        )
        self.batch_size = Histogram(
            "autocaption_batch_size",
            "Pictures that were captioned together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self._registry,
        )
        Gauge("autocaption_in_work", "Requests being answered.", registry=self._registry).set_function(
            in_work
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
