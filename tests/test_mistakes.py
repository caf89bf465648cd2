"""What the commands say to a user's mistake: one line with what, where, and what to do."""

import json
import shutil

import pytest
import torch
from helpers.commands import TINY, only_run, run
from helpers.interruptions import Crash
from helpers.scripts import run_here
from PIL import Image

from autocaption.errors import UserError

TRAINING = ("train.py", *TINY, "logger=csv", "trainer=cpu", "trainer.max_epochs=1")
MISTAKES = {  # what is named, by words of the command line
    "optimzer.lr=1": "optimzer.lr",
    "model/decoder=lstn": "lstm",
    "data=flickr8k": "data.root",
    "resume=nowhere.ckpt": "nowhere.ckpt",
    "resume=last": "is left to resume",
    "trainer.max_epoch=2": "did you mean trainer.max_epochs",
    "+scheduled_smapling=0.5": "nothing reads scheduled_smapling; did you mean scheduled_sampling?",
    "++split=val": "nothing reads split; did you mean data.split?",
    "+data.batchsize=2": "nothing reads data.batchsize; did you mean data.batch_size?",
    "model.decoder=lstm": "choose a part with model/decoder=lstm",
    "model/encoder.width=8": "a value's key has dots alone: model.encoder.width=8",
    "schedule=null": "schedule=null: a group takes the name of a choice",
    "data.root=/tmp/ü": """quote text for it, too: 'data.root="/tmp/ü"'""",
    "tags=[ü]": """quote the texts within them, as in 'KEY=["ü"]'""",
    "test=No": "test=No: take true or false",  # Hydra takes it for text
    "search=base": "search=base is only what its choices share",
    "init_from=nowhere.ckpt": "checkpoint not found: nowhere.ckpt",
    "runs_dir=file": "file/",  # a file
    "runs_dir=/proc/nowhere": "/proc/nowhere",
    "run_dir=file": "file: File exists",
}
WHILE_IT_STARTS = {
    "seed=5000000000": "seed=5000000000: take a whole number, from 0 to 4294967295",
    "seed=-1": "seed=-1",
    "report.images=0": "report.images=0: take a whole number, 1 or more",
    "search.beam_size=0": "search.beam_size=0",
    "search.min_length=30": "search.min_length=30 is more than search.max_length=8",
    "data.batch_size=0": "data.batch_size=0",
    "data.num_workers=-1": "data.num_workers=-1",
    "data.num_workers=many": "data.num_workers=many: take auto or a whole number",
    "optimizer.lr=-1": "optimizer.lr=-1: take a number, at least 0",
    "optimizer.lr=fast": "optimizer.lr=fast: take a number, at least 0",
    "trainer.max_time=5": "trainer.max_time=5: take DD:HH:MM:SS",
    "trainer.devices=0": "Trainer(devices=0)",
    "trainer.accumulate_grad_batches=0": "trainer.accumulate_grad_batches=0",
    "trainer.gradient_clip_val=-1": "trainer.gradient_clip_val=-1",
    "trainer.check_val_every_n_epoch=0": "trainer.check_val_every_n_epoch=0",
    "trainer.val_check_interval=0": "trainer.val_check_interval=0",
    "trainer.val_check_interval=500": "500 is more than the 3 batches of an epoch",
    "trainer.precision=nonsense": "trainer.precision: Trainer refuses its values: Precision 'nonsense'",
    "+trainer.foo=1": "trainer.foo: Trainer has no such argument",
    "trainer.sync_batchnorm=true": "trainer.sync_batchnorm=true works on GPUs only",
    "trainer.strategy=ddp_fork": "trainer.strategy=ddp_fork starts processes that can't be resumed; take ddp",
    "trainer.float32_matmul_precision=low": "float32_matmul_precision=low: take highest, high, medium",
    "trainer.precision=bf16-true": "take 32-true, bf16-mixed or 16-mixed",
    "trainer.max_epochs=-1 trainer.max_time=00:00:01:00 scheduled_sampling=0.5": "scheduled_sampling",
    "callbacks.best.filename=../../best": "filename=../../best",
    "callbacks=early_stopping callbacks.early_stopping.monitor=val/x": "early_stopping.monitor=val/x is no",
    "~optimizer": "no optimizer",
    "~data.batch_size": "no data.batch_size",
    "model.decoder=null": "no model.decoder",
}


def one_line(done):
    """The line that a failed command said."""
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "traceback" not in line
    return line


@pytest.mark.parametrize(("word", "named"), MISTAKES.items())
def test_a_mistake_is_one_line(word, named, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert named in one_line(run_here("train.py", "data.check_images=false", word, cwd=tmp_path))
    assert all((left / "run.json").exists() for left in tmp_path.glob("runs/*"))  # else nothing began


@pytest.mark.parametrize(("words", "named"), WHILE_IT_STARTS.items())
def test_a_value_out_of_range_ends_the_run_as_failed(words, named, tmp_path):
    line = one_line(run_here(*TRAINING, *words.split(), cwd=tmp_path))
    assert named in line
    record = json.loads((only_run(tmp_path) / "run.json").read_text())
    assert (record["state"], record["attempts"][0]["exit_code"]) == ("failed", 1)
    assert f"error: {record['error']}" == line
    for name in ("metrics.json", "traceback.txt"):
        assert not (only_run(tmp_path) / name).exists()


@pytest.mark.parametrize(
    ("named", "others"),
    [
        ("hydra.launcher.n_jobs=0: take a whole number", ["seed=1,2"]),
        ("resume=last is of a single run", ["seed=1,2"]),
        ("run_dir=mine is of a single run", ["seed=1,2"]),
        ("sweep.retries=-1: take a whole number", ["sweep=default", "optimizer.lr=interval(0.1,1.0)"]),
    ],
)
def test_a_mistake_of_a_multirun_is_one_line(named, others, tmp_path):
    word = named.partition(" ")[0].rstrip(":")
    assert named in one_line(run_here("train.py", "-m", *TINY, *others, word, cwd=tmp_path))
    assert [*tmp_path.glob("runs/multirun/*")] == []


def test_null_leaves_a_part_out(tmp_path):
    words = ("callbacks.progress=null", "callbacks.best=null", "logger.csv=null", "+logger.wandb=null")
    done = run_here(*TRAINING, *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    folder = only_run(tmp_path)
    assert [file.name for file in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    assert not (folder / "csv").exists()


@pytest.fixture(name="trained", scope="module")
def train(tmp_path_factory):
    """A folder with a run in `~/runs`, trained until the time is over."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        limits = ("trainer.max_epochs=-1", "trainer.max_time=00:00:00:01", "hydra.job.chdir=true")
        done = run_here(*TRAINING, "runs_dir=~/runs", "test=false", *limits, cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the learning rate stays at its peak" in done.stdout
    return home


def test_time_alone_can_limit_a_training(trained):
    saved = torch.load(only_run(trained) / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] >= 3
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] > 0


def contents(folder):
    """The files of a run folder, but for the attempts and logs."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.name: path.read_bytes() for path in files if path.name != "run.json" and path.suffix != ".log"
    }


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("train.py resume={} trainer.max_epochs=0", "trainer.max_epochs=0: the checkpoint has trained"),
        ("train.py resume={} optimizer.lr=-1", "optimizer.lr=-1: take"),
        ("train.py resume={} seed=9", "resume cannot change seed"),
        ("train.py resume={} run_dir=runs/other", "run_dir=runs/other"),
        ("train.py run_dir={}", "holds a run already (finished)"),
        ("eval.py checkpoint={}/checkpoints/best.ckpt run_dir={}", "folder of another command"),
    ],
)
def test_a_mistake_costs_a_finished_run_nothing(trained, words, named):
    folder = only_run(trained)
    before = contents(folder)
    line = one_line(run_here(*words.replace("{}", str(folder)).split(), cwd=trained))
    assert named in line
    assert json.loads((folder / "run.json").read_text())["state"] == "finished"
    assert contents(folder) == before
    assert only_run(trained) == folder


def test_paths_mean_the_folder_of_the_command(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(trained))
    shutil.copy(only_run(trained) / "checkpoints/best.ckpt", tmp_path / "mine.ckpt")
    words = ("search=greedy", "logger=none", "trainer=cpu")
    done = run_here("eval.py", "checkpoint=mine.ckpt", "hydra.job.chdir=true", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (only_run(tmp_path) / "metrics.json").exists()
    home = f"checkpoint=~/runs/{only_run(trained).name}/checkpoints/nowhere.ckpt"
    assert f"not found: {trained}/runs" in one_line(run_here("eval.py", home, cwd=tmp_path))


def test_an_experiment_that_an_evaluation_names_needs_no_data_of_its_own(trained, tmp_path):
    checkpoint = f"checkpoint={only_run(trained)}/checkpoints/best.ckpt"
    words = ("experiment=transformer", "logger=none", "trainer=cpu", "report=null", "search.beam_size=2")
    done = run_here("eval.py", checkpoint, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "data.root" in one_line(run_here("eval.py", "captions=a.json", *words, cwd=tmp_path))


@pytest.mark.parametrize("word", ["seed=-1", "data.batch_size=0", "search.beam_size=0", "runs_dir=file"])
def test_a_mistake_in_an_evaluation_is_one_line(trained, tmp_path, word):
    (tmp_path / "file").write_text("no folder")
    checkpoint = f"checkpoint={only_run(trained)}/checkpoints/best.ckpt"
    assert word.split("=")[1] in one_line(run_here("eval.py", checkpoint, word, cwd=tmp_path))


@pytest.mark.parametrize("given", ["other.ckpt", "[]", "null", "."])
def test_what_is_no_checkpoint_is_one_line(given, tmp_path):
    (tmp_path / "other.ckpt").write_bytes(b"no checkpoint")
    one_line(run_here("eval.py", f"checkpoint={given}", cwd=tmp_path))


def test_a_checkpoint_that_does_not_fit_names_the_first_tensor(trained, tmp_path):
    saved = torch.load(only_run(trained) / "checkpoints/best.ckpt", weights_only=True)
    saved["state_dict"]["decoder.embed.weight"] = torch.zeros(3, 4)
    torch.save(saved, tmp_path / "misfit.ckpt")
    line = one_line(run_here("eval.py", "checkpoint=misfit.ckpt", cwd=tmp_path))
    assert "decoder.embed.weight is 3x4, and the model's is " in line
    assert "x16" in line


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "captions.json", "samples.png", "csv"])
def test_a_file_that_cannot_be_written_is_named(name, tmp_path):
    blocked = tmp_path / "mine" / name
    if name == "csv":
        blocked.parent.mkdir()
        blocked.write_text("no folder")
    else:
        (blocked / "something").mkdir(parents=True)
    line = one_line(run_here(*TRAINING, f"run_dir={tmp_path}/mine", cwd=tmp_path))
    assert str(blocked) in line
    assert json.loads((tmp_path / "mine/run.json").read_text())["state"] == "failed"


def test_an_unforeseen_error_of_an_evaluation_is_kept_in_its_folder(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(Crash, "on_test_batch_end", Crash.on_train_batch_end, raising=False)
    checkpoint = only_run(trained) / "checkpoints/best.ckpt"
    crash = "+callbacks.crash._target_=helpers.interruptions.Crash"
    done = run_here("eval.py", f"checkpoint={checkpoint}", "trainer=cpu", crash, cwd=tmp_path)
    folder = only_run(tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: RuntimeError: a bug; the traceback is in {folder}/traceback.txt\n"
    assert "RuntimeError: a bug" in (folder / "traceback.txt").read_text()
    assert json.loads((folder / "run.json").read_text())["state"] == "failed"
    assert not (folder / "metrics.json").exists()


def test_an_unforeseen_error_before_the_run_starts_is_kept_too(tmp_path, monkeypatch):
    def crash(path):
        raise RuntimeError("a bug")

    monkeypatch.setattr("autocaption.runs.checkpoint.load", crash)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    evaluation = run_here("eval.py", "checkpoint=a.ckpt", cwd=tmp_path)
    (tmp_path / "a.jpg").touch()
    captioning = run_here("-m", "autocaption", "caption", "a.jpg", "--checkpoint", "a.ckpt", cwd=tmp_path)
    (aside,) = tmp_path.glob("autocaption_*")
    for done, file in ((evaluation, only_run(tmp_path) / "traceback.txt"), (captioning, aside)):
        assert done.returncode == 1
        assert done.stderr == f"error: RuntimeError: a bug; the traceback is in {file}\n"
        assert "RuntimeError: a bug" in file.read_text()


def test_a_broken_image_stops_the_run_before_the_first_step(tmp_path):
    images, texts = tmp_path / "Flicker8k_Dataset", tmp_path / "Flickr8k_text"
    images.mkdir()
    texts.mkdir()
    lines = []
    for name, split in (("a", "train"), ("b", "dev"), ("c", "test")):
        Image.new("RGB", (40, 30), "red").save(images / f"{name}.jpg")
        (texts / f"Flickr_8k.{split}Images.txt").write_text(f"{name}.jpg\n")
        lines += [f"{name}.jpg#{k}\tA red square .\n" for k in range(5)]
    (texts / "Flickr8k.token.txt").write_text("".join(lines))
    whole = (images / "c.jpg").read_bytes()
    (images / "c.jpg").write_bytes(whole[: len(whole) // 2])
    words = ("train.py", "data=flickr8k", f"data.root={tmp_path}", "logger=default", "trainer=cpu")
    assert "c.jpg" in one_line(run_here(*words, cwd=tmp_path))
    assert not (only_run(tmp_path) / "wandb").exists()


def test_a_broken_image_costs_a_resumed_run_nothing_with_its_loggers(trained, monkeypatch):
    def find(*splits):
        raise UserError("c.jpg is broken")

    monkeypatch.setattr("autocaption.data.datamodule.CaptionDataModule.preload", find)
    folder = only_run(trained)
    words = ("train.py", f"resume={folder}", "logger=default", "trainer.max_time=00:01:00:00")
    assert "c.jpg" in one_line(run_here(*words, cwd=trained))
    assert not (folder / "wandb").exists()


def test_traceback_only_with_the_debug_variable(tmp_path):
    done = run("train.py", "resume=nowhere.ckpt", cwd=tmp_path, AUTOCAPTION_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
