"""The wheel, installed apart from the checkout, works in an empty folder."""

import json
import os
import shutil
import site
import subprocess
import sys
import venv

import pytest
from helpers import ROOT
from helpers.commands import TINY, only_run

PARTS = (
    "autocaption",
    "hydra_plugins",
    "conf",
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The console script of a fresh environment that has the wheel, and this environment's other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, source / part)
    (source / "conf/local").mkdir(exist_ok=True)
    (source / "conf/local/default.yaml").write_text("logger:\n  wandb:\n    api_key: secret\n")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "-w", folder, source], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    (packages,) = (folder / "venv/lib").glob("python*/site-packages")
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))
    install = [sys.executable, "-m", "pip", "--python", folder / "venv/bin/python", "install"]
    options = ["--no-deps", "--no-index", "--ignore-installed"]
    subprocess.run([*install, *options, wheel], check=True, capture_output=True)
    assert (packages / "autocaption/conf/train.yaml").is_file()
    assert not (packages / "autocaption/conf/local").exists()  # a machine's own settings
    return folder / "venv/bin/autocaption"


def run(command, *words, cwd):
    environment = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([command, *words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_an_installed_package_trains_and_captions_in_an_empty_folder(command, tmp_path):
    run(command, "train", "debug=fast", *TINY, "logger=csv", cwd=tmp_path)
    trained = only_run(tmp_path)
    command_line = json.loads((trained / "provenance.json").read_text())[0]["command"]
    assert str(ROOT) not in command_line
    checkpoint = trained / "checkpoints/last.ckpt"
    run(command, "eval", f"checkpoint={checkpoint}", cwd=tmp_path)
    shutil.copy(ROOT / "docs/sample.png", tmp_path)
    done = run(command, "caption", "sample.png", "--checkpoint", checkpoint, cwd=tmp_path)
    assert done.stdout.startswith("sample.png\t")


@pytest.mark.slow
def test_its_jobs_ranks_and_trials_are_processes_of_its_own(command, tmp_path):
    run(command, "train", "-m", "debug=fast", *TINY, "logger=csv", "seed=1,2", cwd=tmp_path)
    assert len(list((tmp_path / "runs/multirun").glob("*/*/metrics.json"))) == 2
    run(command, "train", "trainer=ddp_sim", "trainer.max_epochs=1", *TINY[:-1], "logger=csv", cwd=tmp_path)
    words = ("sweep=default", "optimizer.lr=interval(1e-4, 1e-2)", "sweep.n_trials=2", "logger=csv")
    run(command, "train", "-m", *words, *TINY[:-1], "trainer.max_epochs=1", cwd=tmp_path)
    (study,) = (tmp_path / "runs/sweeps").iterdir()
    assert (study / "report.html").is_file()
    run(command, "sweep", "report", study.name, cwd=tmp_path)
