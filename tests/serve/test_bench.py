"""`make bench-serve` at toy size: real clients, a real server, and a figure for each."""

import math

import pytest
from helpers.commands import TINY

from benchmarks import serving

MODEL = (*(word for word in TINY if "data" not in word), "model=show_and_tell")


@pytest.mark.slow
def test_the_bench_measures_with_batches_and_without(capsys, monkeypatch):
    found = serving.measure(model=MODEL, clients=(1, 2), requests=8, size=(40, 30))
    assert set(found) == {(name, many) for name in ("batches", "one by one") for many in (1, 2)}
    for seen, cpu in found.values():
        assert all(math.isfinite(value) and value > 0 for value in (*vars(seen).values(), cpu))
        assert seen.p50 <= seen.p99
    monkeypatch.setattr(serving, "CLIENTS", (1, 2))
    monkeypatch.setattr(serving, "measure", lambda: found)
    serving.main()
    printed = capsys.readouterr().out
    assert "p50 of one client" in printed
    assert "times the throughput" in printed
