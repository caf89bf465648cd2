"""Choices of conf/ that change how a run goes, each in a run of its own, in this process."""

import json
import sys

import pytest
from helpers.commands import TINY
from helpers.configs import composed
from hydra.errors import InstantiationException

from autocaption import experiment


def run(folder, *words):
    """(metrics.json, rows of the CSV) of a tiny training."""
    experiment.train(composed(*TINY, f"run_dir={folder}", *words))
    rows = [
        line.split(",") for file in folder.glob("csv/metrics.csv") for line in file.read_text().split("\n")
    ]
    return json.loads((folder / "metrics.json").read_text()), [
        dict(zip(rows[0], row, strict=False)) for row in rows[1:]
    ]


@pytest.mark.parametrize(
    "words",
    [("logger=none",), ("~logger",), ("callbacks=none",), ("~callbacks",), ("~callbacks", "~logger")],
    ids=" ".join,
)
def test_runs_without_loggers_or_callbacks(tmp_path, words):
    metrics, rows = run(tmp_path, *words, *([] if "ogger" in " ".join(words) else ["logger=csv"]))
    assert {"val/bleu4", "test/bleu4"} <= set(metrics)
    assert bool(rows) == ("ogger" not in " ".join(words))
    assert (tmp_path / "checkpoints/best.ckpt").exists() == ("callbacks" not in " ".join(words))


def test_deleting_one_logger_keeps_the_others(tmp_path):
    assert run(tmp_path, "logger=many", "~logger.wandb", "~logger.csv")[1] == []
    assert list((tmp_path / "tensorboard").rglob("events*"))
    assert not (tmp_path / "wandb").exists()


def test_early_stopping_ends_training(tmp_path):
    words = ("callbacks=ema", "+callbacks/extra@callbacks=early_stopping", "logger=csv", "optimizer.lr=0")
    metrics, _ = run(tmp_path, *words, "callbacks.early_stopping.patience=2", "trainer.max_epochs=9")
    assert metrics["epochs"] == 3  # with a learning rate of 0, the first validation is the best


def test_a_validation_amid_an_epoch_is_shown_with_the_loss_of_its_step(tmp_path, capsys):
    run(tmp_path, "trainer.val_check_interval=1", "trainer.max_epochs=1", "logger=none", "test=false")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line[4::2] for line in lines] == [["train/loss", "val/loss", "val/bleu4", "val/cider"]] * 3
    assert len({line[5] for line in lines}) == 3


def test_debug_fast_validates_and_tests_once(tmp_path):
    metrics, rows = run(tmp_path, "trainer.max_epochs=1", "debug=fast", "logger=csv")
    assert metrics["steps"] == 2
    assert sum(bool(row.get("val/loss")) for row in rows) == 1
    assert sum(bool(row.get("test/loss")) for row in rows) == 1


@pytest.mark.parametrize("batches", [1.0, 0.5])
def test_a_test_of_a_part_of_the_split_says_so(tmp_path, caplog, batches):
    words = ("logger=none", "trainer.max_epochs=1", "data.batch_size=4", "data.source.test=8")
    metrics, _ = run(tmp_path, *words, f"trainer.limit_test_batches={batches}")
    assert metrics["images"] == 8 * batches
    assert ("test/... scores 4 of 8 images (limit_test_batches)" in caplog.text) == (batches == 0.5)


def test_a_test_of_weights_that_no_validation_chose_says_so(tmp_path, caplog):
    run(tmp_path, "logger=none", "trainer.max_epochs=1", "trainer.limit_val_batches=0")
    assert "the test is of the last weights" in caplog.text


LR = {"show_and_tell": 3e-2, "show_attend_tell": 3e-2, "transformer": 1e-2}
SMALL = {
    "show_and_tell": ["model.decoder.embed_dim=32", "model.decoder.hidden_dim=32"],
    "show_attend_tell": ["model.decoder.embed_dim=32", "model.decoder.hidden_dim=32"],
    "transformer": ["model.decoder.width=32", "model.decoder.heads=2"],
}


@pytest.mark.parametrize("name", SMALL)
def test_debug_overfit_reaches_a_loss_of_zero(tmp_path, name):
    # The experiment's own regularisation, and more of it, is turned off.
    words = [word for word in TINY if not word.startswith("model.decoder")]
    config = composed(
        *words,
        *(f"experiment={name}", "model/encoder=convnet", "data=shapes", "model.encoder.width=4"),
        "model.encoder.image_size=64",
        *("model.encoder.out_dim=16", "data.features=null", "trainer.precision=32-true", *SMALL[name]),
        *("scheduled_sampling=0.3", "debug=overfit", "data.source.train=2", f"optimizer.lr={LR[name]}"),
        *("trainer.max_epochs=60", "trainer.check_val_every_n_epoch=60", "test=false", "logger=csv"),
        *("tokenizer.min_count=1", "callbacks=default", f"run_dir={tmp_path}"),
    )
    experiment.train(config)
    (file,) = tmp_path.glob("csv/metrics.csv")
    head, *rows = [line.split(",") for line in file.read_text().split()]
    losses = [float(row[head.index("train/loss")]) for row in rows if row[head.index("train/loss")]]
    assert losses[0] > 1
    assert losses[-1] < 0.05


def test_mlflow_keeps_metrics_and_tags(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    run(tmp_path, "logger=mlflow", "tags=[a,b]", "trainer.log_every_n_steps=1")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (found,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert found.info.run_name == tmp_path.name
    assert found.data.tags["tags"] == "a,b"
    assert {"val/bleu4", "train/loss"} <= set(found.data.metrics)
    assert found.info.status == "FINISHED"


def test_mlflow_without_its_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("pytorch_lightning.loggers.mlflow._MLFLOW_AVAILABLE", False)
    with pytest.raises(InstantiationException, match=r"autocaption\[mlflow\]"):
        run(tmp_path, "logger=mlflow")
