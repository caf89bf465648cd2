"""Every part of `make bench` at toy size: it runs and gives the metrics of benchmarks/latest.json."""

import json
import math
import sys
import time

import pytest
import torch
from helpers.scripts import run_here

from autocaption.errors import UserError
from benchmarks import __main__ as bench
from benchmarks import (
    bleu,
    extraction,
    gpu,
    growth,
    hugging_face,
    limits,
    scale,
    scoring,
    search,
    search_limits,
    startup,
    sweeping,
    training,
    transformer_beam,
)

TINY = ("data.source.train=6", "data.source.val=2", "data.source.test=2", "data.batch_size=2")
PARTS = {
    "training": lambda: training.measure(
        images=24, batch=4, dim=16, backbone="resnet18", pixels=32, rounds=1, steps=2
    ),
    "limits": lambda: limits.measure(
        images=2, places=4, rounds=1, width=16, heads=2, embed_dim=16, hidden_dim=16, attention_dim=8
    ),
    "extraction": lambda: extraction.measure(
        pictures=4, picture_size=(40, 32), image_size=32, batch=2, rounds=1
    ),
    "search": lambda: search.measure(images=6, batch=3, alone=2, beam=2, length=6, dim=16),
    "bleu": lambda: bleu.measure(images=20, rounds=1),
    "scoring": lambda: scoring.measure(images=20, resamples=10, rounds=1),
    "startup": lambda: startup.measure(rounds=1, train=(*startup.TRAIN, *TINY)),
    "growth": lambda: growth.measure(
        captions=8, images=2, warm=1, steps=1, million=(*growth.MILLION, *TINY, "tokenizer.min_count=1")
    ),
    "sweeping": lambda: sweeping.measure(trials=2),
    "transformer_beam": lambda: transformer_beam.measure(
        images=3, few=2, beam=2, length=6, places=4, rounds=1, width=16, heads=2, layers=1
    ),
    "search_limits": lambda: search_limits.measure(
        **{"images": 2, "beam": 2, "length": 6, "places": 4, "rounds": 1, "width": 16, "heads": 2},
        **{"embed_dim": 16, "hidden_dim": 16, "attention_dim": 8},
    ),
    "hugging_face": lambda: hugging_face.measure(
        batches=(32, 64), beam=2, words=3, places=4, rounds=1, width=16, heads=2, layers=1
    ),
    "scale": lambda: scale.measure(images=60, captions=300, workers=2, batch=4),
}
LATEST = json.loads(bench.FILE.read_text())


@pytest.fixture
def in_process(monkeypatch):
    """Runs here what parts would run in processes of their own."""

    def python(words, folder):
        start, clock = time.time(), time.perf_counter()
        if words[0] == "-c":
            exec(words[1])
            return time.perf_counter() - clock, "", start
        done = run_here(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
        return time.perf_counter() - clock, done.stderr, start

    monkeypatch.setattr(startup, "python", python)
    for part in (growth, scale):
        monkeypatch.setattr(part, "alone", lambda function, *arguments: function(*arguments))


@pytest.mark.parametrize("part", bench.PARTS)
def test_part_gives_its_metrics(part, in_process):
    if part == "hugging_face":
        pytest.importorskip("transformers")
    metrics = PARTS[part]()
    named = {name.removeprefix(f"{part}: ") for name in LATEST["metrics"] if name.startswith(f"{part}: ")}
    assert set(metrics) == named - {"peak MB"}  # of the part's process
    assert all(math.isfinite(value) for value in metrics.values()), metrics


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert hugging_face.measure() == {}
    assert capsys.readouterr().err == (
        "hugging_face is skipped: pip install -e '.[bench]' for transformers\n"
    )


@pytest.mark.slow
def test_what_a_gpu_is_measured_with_runs_on_a_cpu(monkeypatch):
    monkeypatch.setattr(gpu, "CASES", {"show_and_tell, bf16": gpu.CASES["show_and_tell, bf16"]})
    measured = gpu.measure(
        **{"accelerator": "cpu", "images": 8, "warm": 1, "steps": 1, "pixels": (64, 48)},
        training_sizes=("data.batch_size=2",),
        picture_changes=("model.encoder.image_size=32", "data.batch_size=2", "data.num_workers=0"),
        **{"search_images": 4, "search_batch": 2, "beam": 2},
        search_sizes=({"width": 16, "heads": 2, "layers": 1}, 16),
    )
    metrics = dict(measured)
    assert all(value > 0 for name, value in metrics.items() if "busy" not in name), metrics
    assert len(metrics) == 9


def test_without_a_gpu_its_benchmark_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="torch finds none"):
        gpu.main()


def test_a_process_is_timed(tmp_path):
    seconds, stderr, start = startup.python(("-c", "import sys; print('hello', file=sys.stderr)"), tmp_path)
    assert seconds > 0
    assert stderr == "hello\n"
    assert start <= time.time()


def test_every_bar_is_about_a_metric():
    assert {*bench.AT_LEAST, *bench.AT_MOST} <= set(LATEST["metrics"])


def test_the_whole_bench_is_printed_and_written(tmp_path, monkeypatch, capsys):
    measured = {"transformer_beam: times recomputing": 4.0, "startup: seconds of --cfg job beyond hydra": 0.5}
    monkeypatch.setattr(bench, "run", lambda part: {k: v for k, v in measured.items() if k.startswith(part)})
    monkeypatch.setattr(bench, "FILE", tmp_path / "latest.json")
    monkeypatch.setattr("sys.argv", ["benchmarks"])
    bench.main()
    written = json.loads((tmp_path / "latest.json").read_text())
    assert written["metrics"] == measured
    assert set(written) == set(LATEST)
    printed = capsys.readouterr().out
    assert "MISSES >= 5" in printed
    assert "reaches <= 1.0" in printed


def test_some_parts_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "run", lambda part: {f"{part}: x": 1.0})
    monkeypatch.setattr(bench, "FILE", tmp_path / "latest.json")
    monkeypatch.setattr("sys.argv", ["benchmarks", "bleu"])
    bench.main()
    assert not list(tmp_path.iterdir())
