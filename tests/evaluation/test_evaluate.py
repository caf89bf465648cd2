"""eval.py over several things: each row is what its evaluation alone gives."""

import csv
import shutil
import statistics

import pytest
import torch
from helpers.commands import TINY, only_run, read
from helpers.configs import composed
from helpers.scripts import run_here

from autocaption import build
from autocaption.evaluation.evaluate import MADE_BY
from autocaption.metrics.bootstrap import compare, intervals
from autocaption.metrics.corpus import Generated
from autocaption.runs import exported
from autocaption.runs.checkpoint import load

QUICK = ("trainer=cpu", "logger=csv")
OF_MODELS = {"test/loss", "test/perplexity", "test/self_cider"}  # which captions alone don't give
BEST = "checkpoints/best.ckpt"
BOTH = f"checkpoint=[multirun/0/{BEST},multirun/1/{BEST}]"


@pytest.fixture(name="home", scope="module")
def trained(tmp_path_factory):
    """A folder with two runs in multirun/, 0 and 1, whose models differ in their weights and seeds."""
    home = tmp_path_factory.mktemp("evaluation")
    words = (*TINY, *QUICK, "trainer.max_epochs=1", "seed=1", "report=null", f"run_dir={home}/multirun/0")
    done = run_here("train.py", *words, cwd=home)
    assert done.returncode == 0, done.stderr
    shutil.copytree(home / "multirun/0", home / "multirun/1")
    saved = torch.load(home / "multirun/1" / BEST, weights_only=True)
    torch.manual_seed(0)
    for name, value in saved["state_dict"].items():
        if value.dim() > 1 and name.startswith("decoder"):
            value += torch.randn_like(value)
    saved["recipe"]["config"]["seed"] = 2
    torch.save(saved, home / "multirun/1" / BEST)
    return home


def evaluated(home, tmp_path, *words):
    """(the run folder of an evaluation, its metrics.json, its output)."""
    done = run_here("eval.py", *words, *QUICK, f"runs_dir={tmp_path}/runs", cwd=home)
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    return folder, read(folder / "metrics.json"), done.stdout


def logged(folder):
    """What the CSV logger got of an evaluation."""
    with open(folder / "csv/metrics.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    return {key: float(value) for key, value in row.items() if key != "step"}


def scored(captions, references=slice(None)):
    """The scores of a file of captions, by the metrics alone."""
    config = composed(*TINY)
    source = build.source_of(config)
    said = {entry["image_id"]: entry["caption"] for entry in read(captions)}
    images = [
        Generated(image.id, [said[image.id]], image.captions[references]) for image in source.split("test")
    ]
    return build.metrics(config, source).score(sorted(images))


@pytest.fixture(name="compared", scope="module")
def comparison(home, tmp_path_factory):
    """Two models with two searches each, and their ensemble."""
    words = (BOTH, "compare=true", "ensemble=true", "searches=[greedy,beam]", "search.beam_size=2")
    return evaluated(home, tmp_path_factory.mktemp("compared"), *words)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1, beam", [f"checkpoint=multirun/1/{BEST}", "search=beam", "search.beam_size=2"]),
        ("ensemble, greedy", [BOTH, "ensemble=true", "search=greedy"]),
    ],
)
def test_a_row_is_the_evaluation_alone(home, compared, tmp_path, row, words):
    folder, metrics, _ = compared
    alone, own, _ = evaluated(home, tmp_path, *words, "report=null")
    found = metrics["rows"][row]
    assert {key: own.pop(key) for key in MADE_BY if key != "command"} == {
        key: metrics[key] for key in MADE_BY if key != "command"
    }
    assert "eval.py" in own.pop("command")
    assert read(folder / found["folder"] / "metrics.json") == own
    assert {key: found[key] for key in own} == own
    for name in ("captions.json", "per_image.csv", "samples.png"):
        assert (folder / found["folder"] / name).read_bytes() == (alone / name).read_bytes(), name


def test_rows_are_compared_by_the_paired_bootstrap(compared):
    folder, metrics, output = compared
    names = list(metrics["rows"])
    models, searches = ("0", "1", "ensemble"), ("greedy", "beam")
    assert names == [f"{model}, {search}" for model in models for search in searches]
    pairs = {(one["row"], one["other"]): one["metrics"] for one in metrics["differences"]}
    assert list(pairs) == [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    one, other = (scored(folder / metrics["rows"][names[i]]["folder"] / "captions.json") for i in (0, 2))
    expected = compare(one, other)
    found = pairs[names[0], names[2]]
    assert expected["cider"].difference != 0
    for name in ("bleu1", "cider", "rouge_l"):
        assert found[f"test/{name}"]["difference"] == pytest.approx(expected[name].difference)
        assert found[f"test/{name}"]["interval"] == pytest.approx(expected[name][1:3])
        assert found[f"test/{name}"]["p"] == expected[name].p
    interval = intervals(one)["cider"]
    assert metrics["rows"][names[0]]["intervals"]["test/cider"] == pytest.approx(interval[1:])
    assert f"{interval.low:.3f}" in output
    assert f"{-expected['cider'].difference:+.3f}" in output


def test_a_comparison_has_one_report_and_says_by_what_rules_it_was_made(compared):
    folder, metrics, output = compared
    (start,) = read(folder / "provenance.json")
    for key in ("command", "git", "packages", "data"):
        assert metrics[key] == start[key]
    assert set(metrics["data"]) == {"test"}
    assert metrics["rows"]["1, beam"]["checkpoints"] == [f"multirun/1/{BEST}"]
    assert (metrics["split"], metrics["evaluation_tokenizer"]) == ("test", "words")
    page = (folder / "report.html").read_text()
    assert all(f">{name}</th>" in page for name in metrics["rows"])
    pairs = page.split('id="pairs"')[1].split("</section>")[0]
    found = [pair["metrics"]["test/cider"] for pair in metrics["differences"]]
    assert all(f">p {one['p']:.3f}<" in pairs for one in found)
    assert pairs.count("<li") == sum(len(pair["metrics"]) for pair in metrics["differences"])
    assert len(list(folder.rglob("report.html"))) == 1
    assert str(folder / "report.html") in output


def test_captions_of_a_run_score_as_the_run(home, tmp_path):
    run = home / "multirun/0"
    folder, metrics, _ = evaluated(home, tmp_path, f"captions={run}/captions.json", *TINY)
    before = read(run / "metrics.json")
    expected = {key for key in before if key.startswith("test/")} - OF_MODELS
    assert {key: metrics[key] for key in expected} == {key: before[key] for key in expected}
    assert set(metrics["intervals"]) == set(before["intervals"]) - OF_MODELS
    assert all(metrics["intervals"][key] == before["intervals"][key] for key in metrics["intervals"])
    assert read(folder / "captions.json") == read(run / "captions.json")
    assert (folder / "report.html").is_file()
    assert logged(folder) == {key: metrics[key] for key in metrics if key.startswith("test/")}


def test_an_evaluation_that_is_repeated_in_its_folder_is_logged_once(home, tmp_path):
    for beams in (1, 2):
        words = (f"checkpoint=multirun/0/{BEST}", f"search.beam_size={beams}", "report=null")
        folder, metrics, _ = evaluated(home, tmp_path, *words, f"run_dir={tmp_path}/runs/again")
    assert logged(folder)["test/loss"] == metrics["test/loss"]


def test_all_rows_beside_the_human_one_are_scored_without_its_captions(home, tmp_path):
    run, export = home / "multirun/0", tmp_path / "best"  # an export is evaluated as its checkpoint is
    export.mkdir()
    exported.write(load(run / BEST), export)
    words = (f"checkpoint={export}", f"captions={{ours: {run}/captions.json}}", "human=true")
    folder, metrics, _ = evaluated(home, tmp_path, *words)
    assert list(metrics["rows"]) == ["best", "ours", "human"]
    said = read(folder / "rows/human/captions.json")
    images = build.source_of(composed(*TINY)).split("test")
    assert {one["image_id"]: one["caption"] for one in said} == {
        image.id: image.captions[0] for image in images
    }
    model, human = (
        scored(file, references=slice(1, None)).scores()
        for file in (run / "captions.json", folder / "rows/human/captions.json")
    )
    for row, expected in (("best", model), ("ours", model), ("human", human)):
        for name in ("bleu1", "cider", "rouge_l"):
            assert metrics["rows"][row][f"test/{name}"] == pytest.approx(expected[name]), (row, name)
    assert metrics["rows"]["best"]["test/cider"] != read(run / "metrics.json")["test/cider"]
    assert "but its first" in metrics["references"]
    assert metrics["rows"]["human"]["references"] == metrics["references"]
    assert metrics["references"] in (folder / "report.html").read_text()
    (start,) = read(run / "provenance.json")
    assert metrics["data"]["test"] == start["data"]["test"]  # of all captions


def test_seeds_have_a_mean_and_a_standard_deviation(home, tmp_path):
    folder, metrics, output = evaluated(home, tmp_path, "runs={tiny: multirun}")
    assert list(metrics["rows"]) == ["tiny, seed 1", "tiny, seed 2"]
    values = [metrics["rows"][f"tiny, seed {seed}"]["test/cider"] for seed in (1, 2)]
    assert values[0] == read(home / "multirun/0/metrics.json")["test/cider"]
    found = metrics["seeds"]["tiny"]
    assert found["rows"] == ["tiny, seed 1", "tiny, seed 2"]
    cider = found["metrics"]["test/cider"]
    assert (cider["mean"], cider["std"]) == (statistics.fmean(values), statistics.stdev(values))
    half = 12.7062 * cider["std"] / 2**0.5
    assert cider["interval"] == pytest.approx([cider["mean"] - half, cider["mean"] + half], rel=1e-5)
    assert f"{cider['mean']:.3f}±{cider['std']:.3f}" in output
    assert ">tiny, mean</th>" in (folder / "report.html").read_text()
    assert [logged(folder)[f"tiny_seed_{seed}/test/cider"] for seed in (1, 2)] == values
    assert len(list(folder.rglob("csv"))) == 1
