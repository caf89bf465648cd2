"""Tables for the terminal: parameter counts and metrics."""

import io
import re

from rich.console import Console
from torch import nn

from autocaption.report.tables import metrics_table, parameter_count, parameter_table


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleDict({"net": nn.Linear(3, 4)}).requires_grad_(False)
        self.decoder = nn.ModuleDict({"embedding": nn.Embedding(1000, 2), "output": nn.Linear(2, 1000)})
        self.decoder["output"].weight = self.decoder["embedding"].weight  # shared: counted once


def rows(table):
    """The words of each printed line that has any."""
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    lines = re.sub("[^\\w,./\n]", " ", console.file.getvalue()).splitlines()
    return [line.split() for line in lines if line.strip()]


def test_shared_parameters_count_once_and_frozen_ones_as_untrained():
    assert parameter_count(Model(), 1) == {"encoder": (16, 0), "decoder": (3000, 3000)}
    assert parameter_count(Model()) == {
        "encoder.net": (16, 0),
        "decoder.embedding": (2000, 2000),
        "decoder.output": (1000, 1000),
    }


def test_parameter_table_lists_encoder_and_decoder_then_their_parts():
    assert rows(parameter_table(Model())) == [
        ["parameters", "total", "trainable"],
        ["encoder", "16", "0"],
        ["decoder", "3,000", "3,000"],
        ["encoder.net", "16", "0"],
        ["decoder.embedding", "2,000", "2,000"],
        ["decoder.output", "1,000", "1,000"],
    ]


def test_metrics_table_has_a_row_a_metric_and_a_column_a_split():
    val, test = {"loss": 2.0, "bleu4": 0.25}, {"loss": 1.0, "bleu1": 0.5, "bleu4": 0.12345}
    metrics = {f"val/{name}": value for name, value in val.items()}
    metrics |= {f"test/{name}": value for name, value in test.items()} | {"epochs": 3}
    assert rows(metrics_table(metrics, ("train", "val", "test"))) == [
        ["val", "test"],
        ["loss", "2.000", "1.000"],
        ["bleu4", "0.250", "0.123"],
        ["bleu1", "nan", "0.500"],
    ]


def test_metrics_table_has_the_intervals_of_the_test():
    metrics = {
        "val/bleu4": 0.2,
        "test/bleu4": 0.3,
        "test/loss": 2.0,
        "intervals": {"test/bleu4": [0.25, 0.375]},
    }
    assert rows(metrics_table(metrics, ("val", "test"))) == [
        ["val", "test", "95", "interval"],
        ["bleu4", "0.200", "0.300", "0.250", "0.375"],
        ["loss", "nan", "2.000"],
    ]


def test_metrics_table_shows_a_split_without_a_loss():
    assert rows(metrics_table({"test/cider": 0.5}, ("val", "test"))) == [["test"], ["cider", "0.500"]]
