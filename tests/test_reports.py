"""report.html at the end of a run."""

import json
import logging

import pytest
from helpers.commands import TINY
from helpers.configs import composed

from autocaption import experiment, results
from autocaption.evaluation.evaluate import evaluate as run_evaluation

ATTENDS = ["model=show_attend_tell", "model/encoder=convnet", "model.encoder.pooling=grid"]
ATTENDS += ["model.encoder.width=4", "model.encoder.out_dim=16", "model.decoder.attention_dim=8"]


def configured(folder, *words):
    folder.mkdir(exist_ok=True)
    quick = ("trainer.max_epochs=1", "logger=csv", "trainer=cpu", f"run_dir={folder}")
    return composed(*TINY, *ATTENDS, *quick, *words).copy()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / "run"
    experiment.train(configured(folder))
    return folder


def evaluate(folder, trained, *words):
    folder.mkdir()
    given = (f"checkpoint={trained}/checkpoints/best.ckpt", f"run_dir={folder}", "trainer=cpu", *words)
    config = configured(folder, *words)
    merged = composed(*TINY, *ATTENDS, *given, name="eval").copy()
    merged.data, merged.model = config.data, config.model
    run_evaluation(merged)


def test_training_ends_with_a_report_of_its_curves_and_heat_maps(trained):
    page = (trained / "report.html").read_text()
    for entry in json.loads((trained / "captions.json").read_text()):
        assert f'data-id="{entry["image_id"]}"' in page
    assert "Training curves" in page
    maps = json.loads((trained / "attention.json").read_text())
    assert len(maps) == 9
    assert all(one["digits"] in page for one in maps.values())


def test_eval_ends_with_a_report_that_has_the_training_s_curves(trained, tmp_path, capsys):
    evaluate(tmp_path / "eval", trained)
    assert "Training curves" in (tmp_path / "eval/report.html").read_text()
    assert str(tmp_path / "eval/report.html") in capsys.readouterr().out.splitlines()[-1]


def test_a_report_can_be_left_out(trained, tmp_path):
    evaluate(tmp_path / "eval", trained, "report=null")
    assert not (tmp_path / "eval/report.html").exists()


def test_a_failing_report_is_one_warning(trained, tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(results, "write_report", fail)
    with caplog.at_level(logging.WARNING):
        evaluate(tmp_path / "eval", trained)
    (warning,) = [record.getMessage() for record in caplog.records if "report" in record.getMessage()]
    assert "disk full" in warning
    assert (tmp_path / "eval/metrics.json").is_file()
