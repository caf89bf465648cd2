"""Every command in README.md and the other pages composes as it stands there, and some really run.

They run in a folder that holds what they name: DIR is a tiny Flickr8k, runs/RUN a finished run, and so on.
"""

import json
import re
import shlex
import shutil

import pytest
from helpers import CONF, ROOT
from helpers.commands import only_run
from helpers.configs import composed as composed_config
from helpers.flickr8k import write_flickr8k
from helpers.scripts import run_here
from helpers.sweeps import Sweeps
from omegaconf import OmegaConf
from PIL import Image

from autocaption.launch.resolved import resolved
from autocaption.serve.arguments import parser as serve_parser

PAGES = ["README.md", "CONTRIBUTING.md", "docs/architecture.md"]
LINKED = [
    *PAGES,
    "CHANGELOG.md",
    "docs/photographs/README.md",
    "experiments/README.md",
    *(f"experiments/{name}/README.md" for name in ("flickr8k", "flickr8k_sweep")),
]
EVALUATION = (
    "checkpoint",
    "compare",
    "ensemble",
    "searches",
    "runs",
    "captions",
    "human",
)  # keys of eval.py
# `...` in a sweep's command stands for the words of the command above it.
ELLIPSIS = ["experiment=show_and_tell", "data.root=DIR"]
TINY = [
    *("model/encoder=efficientnet_lite0", "model.encoder.pretrained=false", "model.encoder.image_size=32"),
    *("model.decoder.embed_dim=8", "model.decoder.hidden_dim=8", "tokenizer.min_count=1"),
    *("search.max_length=4", "data.num_workers=0", "trainer.max_epochs=1", "logger=csv"),
]


def indented(text):
    """The command lines of a page's indented blocks, with continuation lines joined."""
    lines = re.sub(r"\\\n\s+", "", text).splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


PUBLISHED = [
    line
    for line in indented((ROOT / "experiments/flickr8k/README.md").read_text())
    if line.startswith(("python train.py", "python eval.py"))
]


def commands():
    """Every `python ...` and `autocaption ...` command: of blocks, of inline code, and of `--help`."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        found += indented(text) + re.findall(r"`(python [^`]+)`", text)
    help_text = (CONF / "hydra/autocaption.yaml").read_text()
    found += [re.split(r"\s{2,}", line)[0] for line in re.findall(r"python (?:train|eval)\.py .*", help_text)]
    found = [re.sub("^autocaption ", "python -m autocaption ", line) for line in found]
    words = [shlex.split(line, comments=True) for line in found if line.startswith("python ")]
    expanded = [[new for old in one for new in (ELLIPSIS if old == "..." else [old])] for one in words]
    return [one[1:] for one in {" ".join(one): one for one in expanded}.values()]


COMMANDS = commands()


def inline_overrides():
    """Every `key=value` in a page's text, or `key=` where any value will do; capitals are no keys of ours."""
    text = " ".join((ROOT / page).read_text() for page in PAGES)
    found = sorted(set(re.findall(r"`([a-z_./]+=[^` ]*)`", text)))
    return [one for one in found if not one.endswith(("=mine", "=True"))]


def of_kind(*words):
    """The first command that has these words or starts of words."""
    return next(
        one for one in COMMANDS if all(any(word.startswith(start) for word in one) for start in words)
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder that holds what the commands name; its run was made by the first training command."""
    folder = tmp_path_factory.mktemp("readme")
    write_flickr8k(folder / "DIR")
    done = run_here(*of_kind("train.py", "experiment=show_and_tell", "data.root=DIR"), *TINY, cwd=folder)
    assert done.returncode == 0, done.stderr
    run = only_run(folder)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"state": "preempted"}))  # something to resume
    (folder / "runs/RUN").symlink_to(run)
    for name in ("a", "b", "c"):
        shutil.copy(run / "checkpoints/best.ckpt", folder / f"{name}.ckpt")
    shutil.copy(run / "checkpoints/best.ckpt", folder / "PATH")
    for name in ("picture.jpg", "another.png"):
        Image.new("RGB", (40, 30), "blue").save(folder / name)
    return folder


@pytest.fixture
def composed(monkeypatch):
    """What a command composes when its training, evaluation or trials are left out."""
    configs = []

    def record(config):
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        configs.append(config)

    def jobs(context, config, job_overrides, initial_index, n_jobs):
        for overrides in job_overrides:
            job = context.config_loader.load_sweep_config(config, list(overrides))
            configs.append(resolved(job, run_dir="runs/RUN", resume=None))
        return []

    def plan(context, config, arguments):
        from autocaption.sweep.plan import read_plan

        configs.append(read_plan(context.config_loader, config, arguments))

    monkeypatch.setattr("autocaption.experiment.train", record)
    monkeypatch.setattr("autocaption.evaluation.evaluate.evaluate", record)
    monkeypatch.setattr("autocaption.launch.multirun.launch", jobs)
    monkeypatch.setattr("autocaption.sweep.command.sweep", plan)
    return configs


def test_the_pages_have_commands_of_every_kind():
    starts = {tuple(one[: 2 if one[0] == "-m" else 1]) for one in COMMANDS}
    modules = {("-m", f"autocaption{name}") for name in ("", ".data", ".sweep", ".loggers.sync")}
    assert starts == {("train.py",), ("eval.py",), *modules}
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", [one for one in COMMANDS if one[0].endswith(".py")], ids=" ".join)
def test_command_composes(command, workspace, composed):
    done = run_here(*command, cwd=workspace)
    assert done.returncode == 0, done.stderr
    shows = {"--help", "--cfg"} & set(command)
    assert bool(composed) != bool(shows)


@pytest.mark.parametrize("command", PUBLISHED)
def test_a_published_command_composes(command, workspace, composed):
    done = run_here(*shlex.split(command)[1:], cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert composed


@pytest.mark.parametrize("word", ["optimizer.lrx=1", "model/decoder=lstn", "sweep.n_trialz=3"])
def test_a_stale_command_is_found(word, workspace, composed):
    command = of_kind("train.py", "-m", "sweep=") if word.startswith("sweep") else of_kind("train.py")
    assert run_here(*command, word, cwd=workspace).returncode == 1


@pytest.mark.parametrize("override", inline_overrides())
def test_override_composes(override):
    key, _, value = override.partition("=")
    if value:
        given = () if key == "experiment" else ("experiment=show_and_tell",)
        name = "eval" if key in EVALUATION else "train"
        assert composed_config(*given, "data.root=DIR", override, name=name)
    else:
        assert (CONF / key).is_dir() or key in composed_config(name="eval")


def test_resume(workspace):
    done = run_here(*of_kind("train.py", "resume=last"), "trainer.max_epochs=2", cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert json.loads((workspace / "runs/RUN/metrics.json").read_text())["epochs"] == 2


def test_eval(workspace, tmp_path):
    command = of_kind("eval.py", "checkpoint=runs/RUN", "search=beam")
    done = run_here(*command, f"runs_dir={tmp_path}/runs", "data.num_workers=0", cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert "test/bleu4" in json.loads((only_run(tmp_path) / "metrics.json").read_text())


def test_ensemble(workspace, tmp_path):
    command = of_kind("eval.py", "checkpoint=[", "ensemble=true")
    done = run_here(*command, f"runs_dir={tmp_path}/runs", "data.num_workers=0", cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert "test/bleu4" in json.loads((only_run(tmp_path) / "metrics.json").read_text())


def test_compare(workspace, tmp_path):
    command = of_kind("eval.py", "checkpoint=[", "compare=true")
    quick = ("data.num_workers=0", "report=null", "search.beam_size=2")
    done = run_here(*command, *quick, f"runs_dir={tmp_path}/runs", cwd=workspace)
    assert done.returncode == 0, done.stderr
    rows = json.loads((only_run(tmp_path) / "metrics.json").read_text())["rows"]
    assert list(rows) == ["a, greedy", "a, beam", "b, greedy", "b, beam"]


def test_caption(workspace):
    done = run_here(*of_kind("-m", "caption", "picture.jpg"), cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["picture.jpg", "another.png"]
    done = run_here(*of_kind("-m", "caption", "DIR", "--json"), cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert all(json.loads(line)["captions"] for line in done.stdout.splitlines())


def test_export(workspace):
    pytest.importorskip("safetensors")
    done = run_here(*of_kind("-m", "export", "safetensors"), cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert (workspace / "MODEL/model.safetensors").is_file()


def test_serve():
    arguments = serve_parser().parse_args(of_kind("-m", "autocaption", "serve")[3:])
    assert (str(arguments.checkpoint), arguments.port) == ("runs/RUN/checkpoints/best.ckpt", 8000)


def test_multirun(workspace, tmp_path):
    quick = ("test=false", "trainer.limit_val_batches=0", "hydra/launcher=basic", f"runs_dir={tmp_path}")
    done = run_here(*of_kind("train.py", "-m", "seed=1,2,3"), *TINY, *quick, cwd=workspace)
    assert done.returncode == 0, done.stderr
    seeds = [OmegaConf.load(file).seed for file in sorted(tmp_path.glob("multirun/*/*/config.yaml"))]
    assert seeds == [1, 2, 3]


def test_sweep_and_its_report(workspace, tmp_path):
    sweeps = Sweeps(tmp_path)
    (tmp_path / "DIR").symlink_to(workspace / "DIR")
    command = of_kind("train.py", "-m", "sweep=show_and_tell", "experiment=")[1:]
    command.remove("-m")
    done = sweeps.run(*command, "sweep.n_trials=1", "logger=csv")  # trials without training
    assert done.code == 0, done.err
    shown = run_here(*of_kind("-m", "autocaption.sweep", "report"), cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / shown.stdout.strip()).is_file()


@pytest.mark.parametrize("best", sorted(ROOT.glob("experiments/*/experiment/*.yaml")), ids=lambda p: p.stem)
def test_a_published_experiment_composes(best, workspace, composed):
    words = ("--config-dir", best.parents[1], f"experiment={best.stem}", "data.root=DIR")
    done = run_here("train.py", *words, cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert composed


@pytest.mark.parametrize("page", LINKED)
def test_links_and_files_exist(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link
    if page in PAGES:
        for path in re.findall(r"`((?:autocaption|conf|tests|benchmarks|docs)/[\w/.]*)`", text):
            assert (ROOT / path).exists() or "mine" in path, path
        for name in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
            assert (ROOT / name).exists() or (ROOT / "autocaption" / name).exists() or "mine" in name, name
        for path in re.findall(r"pytest (tests/\S*)", text):
            assert (ROOT / path).exists(), path


def test_the_tree_in_the_readme_lists_every_package():
    (tree,) = re.findall(r"    autocaption/\n((?:      .*\n)+)", (ROOT / "README.md").read_text())
    named = {
        entry.rstrip("/")
        for line in tree.splitlines()
        for entry in re.findall(r"[\w.]+(?:\.py|/)", line[:24])
    }
    folders = {path.parent.name for path in (ROOT / "autocaption").glob("*/__init__.py")}
    assert {name for name in named if not name.endswith(".py")} == folders
    assert all((ROOT / "autocaption" / name).exists() for name in named)


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / page).read_text()
    named = re.findall(r"(?:`|^    )make (\w+)", text, re.MULTILINE)
    assert set(named) <= targets
