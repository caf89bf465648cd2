"""The two commands as a user runs them: in processes of their own, on tiny built-in data."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.commands import TINY, only_run, read, run, run_anew
from omegaconf import OmegaConf
from PIL import Image

from autocaption.evaluation.evaluate import MADE_BY
from autocaption.loggers.wandb_log import read_log


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run with the default loggers: (its folder, the process)."""
    folder = tmp_path_factory.mktemp("trained")
    done = run_anew("train.py", *TINY, "tags=[a]", "+registry={password: hunter2}", cwd=folder)
    assert done.returncode == 0, done.stderr
    return only_run(folder), done


def test_run_writes_everything_to_its_folder(trained):
    folder, done = trained
    metrics = read(folder / "metrics.json")
    assert {f"{split}/bleu{n}" for split in ("val", "test") for n in (1, 2, 3, 4)} <= set(metrics)
    captions = read(folder / "captions.json")
    assert len(captions) == 9
    assert all(set(entry) == {"image_id", "caption"} for entry in captions)
    assert Image.open(folder / "samples.png").width > 500
    report = (folder / "report.html").read_text()
    assert all(f'data-id="{entry["image_id"]}"' in report for entry in captions)
    (start,) = read(folder / "provenance.json")
    assert start["packages"]["torch"] == torch.__version__.split("+")[0]
    assert "train.py" in start["command"]
    assert "bleu4" in done.stdout
    assert all(str(folder / name) in done.stdout for name in ("metrics.json", "report.html"))
    assert done.stderr == ""
    rows = (folder / "csv/metrics.csv").read_text()
    assert "val/bleu4" in rows.splitlines()[0]
    (logged,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"report.html" in logged.read_bytes()  # the artifact


def test_the_offline_wandb_run_is_complete(trained):
    folder, _ = trained
    (log,) = folder.glob("wandb/off*/*.wandb")
    records = [(record.WhichOneof("record_type"), record) for record in read_log(log)]
    (run,) = (record.run for kind, record in records if kind == "run")
    assert (run.run_id, run.display_name) == (read(folder / "run.json")["id"], folder.name)
    assert (run.job_type, list(run.tags)) == ("train", ["a"])
    updates = [item for kind, record in records if kind == "config" for item in record.config.update]
    assert any(item.key == "trainer" and json.loads(item.value_json)["max_epochs"] == 2 for item in updates)
    # Every metric of the CSV, at the same steps.
    with open(folder / "csv/metrics.csv", newline="") as file:
        expected = {(row["step"], key) for row in csv.DictReader(file) for key in row if row[key]}
    found, summary = set(), {}
    for kind, record in records:
        if kind == "history":
            row = {"/".join(item.nested_key): item.value_json for item in record.history.item}
            found |= {(row["_step"], key) for key in row}
        if kind == "summary":
            summary |= {"/".join(item.nested_key): item.value_json for item in record.summary.update}
    assert {(step, key) for step, key in expected if key != "step"} <= found
    best = read(folder / "metrics.json")
    assert json.loads(summary["val/loss"])["min"] <= best["val/loss"]
    assert json.loads(summary["val/bleu4"])["max"] == pytest.approx(best["val/bleu4"])
    (end,) = (record.exit for kind, record in records if kind == "exit")
    assert end.exit_code == 0
    # Pictures of tables, the best checkpoint and system metrics.
    artifacts = [record.artifact for kind, record in records if kind == "artifact"]
    files = [entry for artifact in artifacts for entry in artifact.manifest.contents]
    assert {"val/captions.table.json", "model.ckpt"} <= {entry.path for entry in files}
    assert any(entry.path.endswith(".png") for entry in files)
    assert all(Path(entry.local_path).is_relative_to(folder) for entry in files)
    (model,) = (artifact for artifact in artifacts if artifact.type == "model")
    assert model.manifest.contents[0].local_path == str(folder / "checkpoints/best.ckpt")
    assert (log.parent / "files/requirements.txt").exists()
    assert any(kind == "stats" for kind, _ in records)


def test_secrets_are_written_nowhere(trained):
    folder, _ = trained
    for file in folder.rglob("*"):
        if file.is_file():
            assert b"hunter2" not in file.read_bytes(), file


def test_checkpoints_hold_plain_values_only(trained):
    for name in ("best", "last"):
        saved = torch.load(trained[0] / f"checkpoints/{name}.ckpt", weights_only=True)
        assert saved["recipe"]["vocabulary"][:4] == ["<pad>", "<bos>", "<eos>", "<unk>"]


def test_eval_of_the_best_checkpoint_gives_the_run_s_test_metrics(trained, tmp_path):
    folder, _ = trained
    done = run_anew("eval.py", f"checkpoint={folder}/checkpoints/best.ckpt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again, metrics = read(only_run(tmp_path) / "metrics.json"), read(folder / "metrics.json")
    for name in ("test/bleu1", "test/bleu4", "test/loss"):
        assert again[name] == pytest.approx(metrics[name], abs=1e-6)
    assert read(only_run(tmp_path) / "captions.json") == read(folder / "captions.json")


def test_eval_of_an_ensemble(trained, tmp_path):
    folder, _ = trained
    best, last = (f"{folder}/checkpoints/{name}.ckpt" for name in ("best", "last"))
    done = run("eval.py", f"checkpoint=[{best},{last}]", "ensemble=true", "search=greedy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = read(only_run(tmp_path) / "metrics.json")
    assert {"test/bleu4", "test/loss"} <= set(metrics)
    assert len(read(only_run(tmp_path) / "captions.json")) == 9


def test_a_run_starts_from_the_weights_of_another(trained, tmp_path):
    best = trained[0] / "checkpoints/best.ckpt"
    words = (f"init_from={best}", "optimizer.lr=0", "trainer.max_epochs=1", "test=false", "logger=csv")
    done = run("train.py", *TINY, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "decoder" in done.stdout  # its parameters, counted
    before, after = (
        torch.load(path, weights_only=True) for path in (best, only_run(tmp_path) / "checkpoints/last.ckpt")
    )
    assert after["epoch"] == 0
    assert after["global_step"] == 3
    for name, value in before["state_dict"].items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(after["state_dict"][name], value), name


def test_two_devices_score_as_one(trained, tmp_path):
    checkpoint = f"checkpoint={trained[0]}/checkpoints/best.ckpt"
    results = []
    for trainer in ("cpu", "ddp_sim"):
        cwd = tmp_path / trainer
        cwd.mkdir()
        words = ("data.split=val", "search=greedy", f"trainer={trainer}")
        done = run("eval.py", checkpoint, *words, cwd=cwd)
        assert done.returncode == 0, done.stderr
        folder = only_run(cwd)
        results.append((read(folder / "metrics.json"), read(folder / "captions.json")))
    (one, said_by_one), (two, said_by_two) = results
    assert said_by_one == said_by_two
    assert len(said_by_two) == 7
    assert one["command"] != two["command"]
    assert {name: one.pop(name) for name in MADE_BY[1:]} == {name: two.pop(name) for name in MADE_BY[1:]}
    del one["command"], two["command"]
    losses = {"val/loss", "val/perplexity"}  # sums of floats
    assert {name: one[name] for name in losses} == pytest.approx({name: two[name] for name in losses})
    assert {name: one[name] for name in one if name not in losses} == {
        name: two[name] for name in two if name not in losses
    }
    assert (one["split"], one["evaluation_tokenizer"]) == ("val", "words")


def test_a_resumed_run_follows_its_command_line(tmp_path):
    words = (*TINY, "logger=csv", "trainer.gradient_clip_val=1.5", "callbacks.last.keep=1")
    words += ("+registry.password=hunter2",)
    first = run("train.py", *words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    folder = only_run(tmp_path)
    before = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    changed = ("trainer=ddp_sim", "trainer.devices=1", "trainer.max_epochs=4", "optimizer.lr=0")
    changed += ("++registry.password=hunter3",)
    more = run("train.py", f"resume={folder}", *changed, cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert only_run(tmp_path) == folder
    after = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert (before["epoch"], after["epoch"]) == (1, 3)
    assert after["global_step"] == 2 * before["global_step"] == 12
    assert after["lr_schedulers"][0]["last_epoch"] == 12
    # Another learning rate is applied, and said.
    assert torch.equal(
        after["state_dict"]["decoder.embed.weight"], before["state_dict"]["decoder.embed.weight"]
    )
    assert "learning rate of model/matrices at step 6" in more.stdout + more.stderr
    # A group that is chosen keeps the values that the run was started with.
    config = OmegaConf.load(folder / "config.yaml")
    assert (config.trainer.strategy, config.trainer.gradient_clip_val) == ("ddp", 1.5)
    assert config.data.source.train == 24  # not given again
    changes = read(folder / "run.json")["attempts"][1]["changes"]
    assert changes["optimizer.lr"] == [0.001, 0]
    assert changes["trainer.max_epochs"] == [2, 4]
    assert "trainer.gradient_clip_val" not in changes
    assert "hunter" not in "".join([first.stdout, first.stderr, more.stdout, more.stderr])
    assert [file for file in folder.rglob("*") if file.is_file() and b"hunter" in file.read_bytes()] == []
    assert len(read(folder / "provenance.json")) == 2


@pytest.mark.parametrize(
    "word", ["model.decoder.hidden_dim=32", "tokenizer.min_count=2", "seed=9", "data.source.size=32"]
)
def test_what_a_checkpoint_cannot_follow_is_refused_on_resume(trained, tmp_path, word):
    folder = tmp_path / "copy"
    shutil.copytree(trained[0], folder)
    done = run("train.py", f"resume={folder}", word, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "resume cannot change" in line
    assert "init_from" in line
    assert len(read(folder / "run.json")["attempts"]) == 1


def test_a_secret_is_asked_for_on_resume(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "copy")
    done = run("train.py", f"resume={tmp_path}/copy", "trainer.max_epochs=3", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("error: registry.password is a secret")
    assert "++registry.password=VALUE" in line
    assert len(read(tmp_path / "copy/run.json")["attempts"]) == 1


def test_ranks_train_one_configuration_and_validate_the_average_that_they_save(tmp_path):
    words = ("logger=csv", "trainer=ddp_sim", "trainer.precision=bf16-mixed", "callbacks=ema")
    words += ("data/augment=crop_and_flip",)  # whose size is known only when the encoder is made
    done = run("train.py", *TINY, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    saved = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 2 * 2  # 24 images / 2 devices / 8 a batch, in 2 epochs
    weights, averages = saved["ema_weights"], saved["state_dict"]
    assert not torch.equal(weights["decoder.output.weight"], averages["decoder.output.weight"])
    (tmp_path / "again").mkdir()
    best = f"checkpoint={folder}/checkpoints/best.ckpt"
    again = run("eval.py", best, "data.split=val", cwd=tmp_path / "again")  # on one device
    assert again.returncode == 0, again.stderr
    metrics = read(only_run(tmp_path / "again") / "metrics.json")
    assert metrics["val/loss"] == pytest.approx(read(folder / "metrics.json")["val/loss"], rel=1e-4)


def test_a_job_of_a_multirun_trains(tmp_path):
    done = run("train.py", "-m", *TINY, "logger=csv", "debug=fast", "seed=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (config,) = (tmp_path / "runs/multirun").glob("*/*/config.yaml")
    assert OmegaConf.load(config).seed == 1
    assert (config.parent / "checkpoints/last.ckpt").exists()


@pytest.mark.parametrize("choice", ["fast", "overfit", pytest.param("profile", marks=pytest.mark.slow)])
def test_debug(choice, tmp_path):
    words = ("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "logger=csv", "test=false")
    done = run("train.py", *TINY, f"debug={choice}", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    steps = {"fast": 2, "overfit": 1, "profile": 3}[choice]
    saved = torch.load(only_run(tmp_path) / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == steps
    assert bool(list(only_run(tmp_path).glob("*profile*.txt"))) == (choice == "profile")


@pytest.mark.slow
def test_bfloat16(tmp_path):
    done = run("train.py", *TINY, "trainer.precision=bf16-mixed", "logger=csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_compiled_training_is_training(tmp_path):
    losses = []
    for compiled in ("false", "true"):
        cwd = tmp_path / compiled
        cwd.mkdir()
        words = ("model.decoder.dropout=0", f"trainer.compile={compiled}", "logger=csv", "test=false")
        done = run("train.py", *TINY, *words, cwd=cwd)
        assert done.returncode == 0, done.stderr
        losses.append(read(only_run(cwd) / "metrics.json")["val/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_what_the_configuration_shown_lacks_is_said(tmp_path):
    done = run("eval.py", "checkpoint=a.ckpt", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == "checkpoint=: what the checkpoint adds to this configuration is not shown\n"
    done = run("train.py", "-m", "seed=1,2", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: -m, --cfg and --help exclude each other; leave -m out")
    assert "traceback" not in done.stderr


def test_show_the_configuration_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    for words in (["--cfg", "job", "--resolve"], ["--help"]):
        done = run_anew("train.py", *words, cwd=tmp_path, PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert "show_and_tell" in done.stdout or "hidden_dim: 512" in done.stdout
