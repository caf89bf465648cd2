"""The precision that `auto` chooses, and where it is kept."""

import pytest
import torch
from helpers.commands import TINY
from helpers.configs import composed
from omegaconf import OmegaConf

from autocaption import build, config, experiment, precision
from autocaption.build.trainer_parts import VOCABULARY
from autocaption.precision import autocast_type, fastest_precision, seconds
from autocaption.ranks import RANKS
from autocaption.runs import checkpoint
from autocaption.runs.rank_folder import RankFolder

SHAPES = {(8, 16, 32), (8, 32, 16)}


@pytest.fixture
def times(monkeypatch):
    """Lets a processor multiply bf16; returns {bf16: seconds of the products}, and notes their shapes."""
    taken = {False: 1.0, True: 0.5, "shapes": []}

    def measured(shapes, bf16):
        taken["shapes"].append(shapes)
        return taken[bf16]

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr(precision, "seconds", measured)
    return taken


@pytest.mark.parametrize(
    ("bf16", "chosen"), [(0.5, "bf16-mixed"), (0.79, "bf16-mixed"), (0.81, "32-true"), (1.9, "32-true")]
)
def test_bf16_where_it_is_clearly_faster(times, bf16, chosen, caplog):
    caplog.set_level("INFO")
    times[True] = bf16
    assert fastest_precision("cpu", SHAPES) == chosen
    assert f"{chosen}; " in caplog.text
    assert f"({bf16:.2f} times)" in caplog.text


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16", "avx512_f"])
def test_products_are_timed_where_the_processor_has_them_in_bf16(times, name, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, name: True}, raising=False)
    assert fastest_precision("cpu", SHAPES) == ("32-true" if name == "avx512_f" else "bf16-mixed")
    assert bool(times["shapes"]) == (name != "avx512_f")


def test_fp32_where_nothing_is_known(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert fastest_precision("cpu", SHAPES) == "32-true"
    assert fastest_precision("mps", SHAPES) == "32-true"


@pytest.mark.parametrize("able", [True, False])
def test_a_gpu_is_not_timed(times, able, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    assert fastest_precision("gpu", SHAPES) == ("bf16-mixed" if able else "32-true")
    assert not times["shapes"]


def test_timing_takes_the_products_forward_and_backward():
    for bf16 in (False, True):
        assert seconds(SHAPES, bf16) > 0
    assert [autocast_type(name) for name in ("32-true", "bf16-mixed", "16-mixed")] == [
        None,
        torch.bfloat16,
        torch.float16,
    ]


def test_the_products_are_those_of_the_decoder(times):
    build.precision(
        composed("model=transformer", "trainer=cpu", "trainer.precision=auto", "data.batch_size=4")
    )
    shapes = times["shapes"][0]
    assert {(220, 320, 1280), (220, 1280, 320), (220, 320, VOCABULARY)} <= shapes


def test_ranks_get_what_the_first_one_chose(times, tmp_path, monkeypatch):
    monkeypatch.setenv(RANKS, "")  # restored at the end

    def precision_of(config, saved, run):
        return RankFolder(run.folder / ".ranks").config()["trainer"]["precision"]

    monkeypatch.setattr(experiment, "_train", precision_of)
    words = ("trainer=ddp_sim", "trainer.precision=auto", f"run_dir={tmp_path}")
    assert experiment.train(composed(*TINY, *words).copy()) == "bf16-mixed"


def test_the_choice_is_kept_on_resume_and_in_evaluation(times, tmp_path):
    words = ("trainer=cpu", "logger=none", "test=false", "trainer.precision=auto", "trainer.max_epochs=1")
    experiment.train(composed(*TINY, *words, f"run_dir={tmp_path}").copy())
    written = OmegaConf.load(tmp_path / "config.yaml")
    saved = checkpoint.load(tmp_path / "checkpoints/last.ckpt")
    kept = build.config_of(saved)
    assert written.trainer.precision == kept.trainer.precision == "bf16-mixed"
    assert saved["epoch"] == 0
    times[True] = 2.0  # now fp32 would win
    asked = composed(*TINY, *words)
    resumed = config.with_overrides(kept, asked, ["trainer.max_epochs=2"])
    evaluated = config.with_overrides(kept, composed(), [], config.MODEL_KEYS)
    assert build.precision(resumed) == build.precision(evaluated) == "bf16-mixed"
    assert build.precision(asked) == "32-true"
