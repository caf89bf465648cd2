"""Exports: what they hold, and that they caption as the checkpoint does."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import CONF
from helpers.checkpoints import pictures_of, save_tiny
from helpers.scripts import run_here
from PIL import Image

import autocaption
from autocaption.data.pictures import as_shown
from autocaption.data.stacked import Stacked
from autocaption.data.transforms import Square
from autocaption.errors import UserError

DECODERS = sorted(file.stem for file in (CONF / "model/decoder").glob("*.yaml") if file.stem != "base")


SUBWORDS = ("tokenizer=bpe", "tokenizer.vocab_size=300")
SIDE_BY_SIDE = (
    "model/encoder=concat",
    "model/encoder@model.encoder.sources.first=convnet",
    "model/encoder@model.encoder.sources.second=convnet",
    *("model.encoder.image_size=64", "model.encoder.sources.second.image_size=32"),
    *(
        f"model.encoder.sources.{name}.{size}"
        for name in ("first", "second")
        for size in ("width=4", "out_dim=8")
    ),
)


def texts(found):
    return [[caption.text for caption in captions] for captions in found]


@pytest.fixture(scope="module")
def lstm(tmp_path_factory):
    pytest.importorskip("safetensors")
    folder = tmp_path_factory.mktemp("lstm")
    private = ("data.manifest=/home/somebody/manifest", "data.features_folder=/home/somebody/features")
    metrics = {"val/bleu4": 0.25, "val/cider": float("nan")}
    path, _, data = save_tiny(folder, "lstm", *private, metrics=metrics)
    pictures = pictures_of(data)
    done = run_here(
        *["-m", "autocaption", "export", "--format", "safetensors", "--output", "out", "--checkpoint"],
        path,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return path, pictures, folder / "out"


def test_safetensors_are_loaded_as_a_checkpoint_is(lstm):
    path, pictures, out = lstm
    expected = autocaption.load(path, "cpu").caption(pictures, k=3)
    assert autocaption.load(out, "cpu").caption(pictures, k=3) == expected
    assert autocaption.load(str(out), "cpu").captioner.recipe["vocabulary"]
    assert autocaption.Captioner.load_from_checkpoint(out).state_dict().keys()


def test_the_folder_has_a_card_and_nothing_of_this_machine(lstm):
    path, _, out = lstm
    assert {file.name for file in out.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: autocaption\npipeline_tag: image-to-text\n")
    assert "| decoder | `LSTMDecoder` |" in card
    assert "| `val/bleu4` | 0.2500 |" in card
    text = (out / "config.json").read_text()
    assert "somebody" not in text
    assert 'features_folder": null' in text
    assert json.loads(text, parse_constant=pytest.fail)["metrics"] == {"val/bleu4": 0.25}  # NaN is no JSON
    assert json.loads(text)["recipe"]["vocabulary"] == torch.load(path)["recipe"]["vocabulary"]


def test_what_lay_within_a_path_of_this_machine_goes_with_it(tmp_path):
    from autocaption.export.folders import export_safetensors

    path, *_ = save_tiny(tmp_path, "lstm", "data.features_folder=/home/somebody/features")
    assert torch.load(path)["recipe"]["config"]["data"]["manifest"] == "${data.features_folder}/pictures.json"
    export_safetensors(path, tmp_path / "out")
    data = json.loads((tmp_path / "out/config.json").read_text())["recipe"]["config"]["data"]
    assert (data["features_folder"], data["manifest"]) == (None, None)  # and not "None/pictures.json"


def test_a_damaged_export_is_one_line(lstm, tmp_path):
    *_, out = lstm
    for name in ("model.safetensors", "config.json"):
        folder = tmp_path / name
        folder.mkdir()
        for file in out.iterdir():
            content = file.read_bytes()
            (folder / file.name).write_bytes(content[: len(content) // 2] if file.name == name else content)
        with pytest.raises(UserError, match="damaged"):
            autocaption.load(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="not a checkpoint of autocaption"):
        autocaption.load(folder)


def test_a_readme_that_somebody_wrote_stays(lstm, tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    words = ("--format", "safetensors", "--output", tmp_path, "--checkpoint", lstm[0])
    done = run_here("-m", "autocaption", "export", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "README.md is not ours" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("name", ["step.onnx", "config.json", "model.safetensors"])
def test_files_that_it_did_not_write_stay(lstm, tmp_path, name):
    from autocaption.export.folders import export_safetensors

    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"{name} is .*name another folder with --output"):
        export_safetensors(lstm[0], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_failed_export_leaves_an_earlier_one_whole(lstm, tmp_path, monkeypatch):
    from autocaption.export import folders

    def full(*words):
        raise UserError("no room")

    shutil.copytree(lstm[2], tmp_path / "out")
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    other, *_ = save_tiny(tmp_path, "lstm", "seed=3")
    with monkeypatch.context() as patched:
        patched.setattr(folders, "write_card", full)
        with pytest.raises(UserError, match="no room"):
            folders.export_safetensors(other, tmp_path / "out")
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    folders.export_safetensors(other, tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["recipe"]["config"]["seed"] == 3


def test_no_folder_is_a_mistake(lstm, tmp_path):
    words = ("--format", "safetensors", "--output", "", "--checkpoint", lstm[0])
    done = run_here("-m", "autocaption", "export", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: --output=: give a path\n")
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_no_card(lstm, tmp_path, monkeypatch):
    from autocaption.export import folders

    def full(checkpoint, folder):
        raise UserError("no room")

    monkeypatch.setattr(folders.exported, "write", full)
    with pytest.raises(UserError, match="no room"):
        folders.export_safetensors(lstm[0], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_rule_that_the_runner_doesn_t_know_is_one_line(lstm, tmp_path):
    pytest.importorskip("tokenizers")
    from autocaption.export.folders import export_onnx

    rule = "tokenizer.rule.path=autocaption.data.tokenizer.original"
    path, *_ = save_tiny(tmp_path, "lstm", "tokenizer=bpe", rule)
    with pytest.raises(UserError, match=r"another tokenizer.rule; take --format safetensors"):
        export_onnx(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_int8_is_of_onnx(lstm, tmp_path):
    words = ("--int8", "--format", "safetensors", "--output", tmp_path / "out", "--checkpoint", lstm[0])
    done = run_here("-m", "autocaption", "export", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "--int8 is for --format onnx" in done.stderr


def runner(folder):
    from autocaption.export.onnx_caption import OnnxCaptioner

    return OnnxCaptioner(folder, threads=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decoder", "changes"),
    [*((name, ()) for name in DECODERS), ("transformer", SUBWORDS), ("attention", SIDE_BY_SIDE)],
)
def test_onnx_captions_as_torch_does(decoder, changes, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("tokenizers")
    from autocaption.export import graphs
    from autocaption.export.folders import export_onnx

    path, _, data = save_tiny(tmp_path, decoder, *changes)
    pictures = pictures_of(data)
    export_onnx(path, tmp_path / "out")
    model, other = autocaption.load(path, "cpu"), runner(tmp_path / "out")
    pixels = [model.prepare(picture) for picture in pictures]
    assert [other.pixels(one).shape for one in pictures] == [tuple(one.pixels_CHW.shape) for one in pixels]
    for beams, penalty in ((1, 0.0), (3, 0.0), (5, 0.8)):
        settings = {"search": "beam", "beam_size": beams, "length_penalty": penalty, "max_length": 8}
        expected = model.caption(pixels, k=beams, **settings)
        found = [other.caption_pixels(one.pixels_CHW.numpy(), beams, penalty, 8) for one in pixels]
        assert [[text for text, _ in captions] for captions in found] == texts(expected)
        scores = [[caption.score for caption in captions] for captions in expected]
        np.testing.assert_allclose([[s for _, s in captions] for captions in found], scores, rtol=1e-3)
    greedy = model.caption(pixels, search="greedy", max_length=8)
    found = [other.caption_pixels(one.pixels_CHW.numpy(), 1, 0.0, 8)[0][0] for one in pixels]
    assert found == [one[0].text for one in greedy]
    whole = (tmp_path / "out/step.onnx").stat().st_size
    graphs.quantize(tmp_path / "out")
    assert (tmp_path / "out/step.onnx").stat().st_size < whole
    assert runner(tmp_path / "out").caption(pictures[0])


@pytest.mark.slow
def test_the_onnx_folder_needs_neither_torch_nor_us(tmp_path):
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    path, _, data = save_tiny(tmp_path)
    pictures = pictures_of(data)
    model, words = autocaption.load(path, "cpu"), ("--format", "onnx", "--checkpoint", path)
    for name in (("whole",), ("int8", "--int8")):
        done = run_here("-m", "autocaption", "export", "--output", *name, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    size = {name: (tmp_path / name / "step.onnx").stat().st_size for name in ("whole", "int8")}
    assert size["int8"] < size["whole"]
    kinds = {node.op_type for node in onnx.load(tmp_path / "whole/encoder.onnx").graph.node}
    assert "Conv" in kinds
    assert "BatchNormalization" not in kinds  # folded into the convolutions
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    code = (
        "import runpy, sys; sys.modules.update(torch=None, autocaption=None, pytorch_lightning=None); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    files = [f"{i}.png" for i in range(len(pictures))]
    expected = [f"{name}\t{one[0].text}" for name, one in zip(files, model.caption(pictures), strict=True)]
    for name in size:
        command = [sys.executable, "-c", code, f"{name}/caption.py", *files]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        same = sum(a == b for a, b in zip(done.stdout.splitlines(), expected, strict=True))
        assert same == len(expected) if name == "whole" else same >= len(expected) / 2


def seeing(*squares):
    """A runner for encoders that want these pictures."""
    pytest.importorskip("onnxruntime")
    from autocaption.export.onnx_caption import OnnxCaptioner

    alone = OnnxCaptioner.__new__(OnnxCaptioner)
    alone.config = {"pictures": json.loads(json.dumps([dataclasses.asdict(one) for one in squares]))}
    return alone


@pytest.mark.parametrize(
    "squares",
    [
        (Square(64),),
        (Square(64, 0.8, "crop", "bicubic"),),
        (Square(64, 0.9, "squash"),),
        (Square(64, 0.9, "pad", "bicubic", (3, 4, 5)),),
        (Square(64, 0.9), Square(80, 0.8, "squash"), Square(48)),
    ],
    ids=str,
)
def test_the_runner_sees_a_picture_as_training_does(lstm, squares):
    _, pictures, _ = lstm
    alone = seeing(*squares)
    strip = pictures[0].resize((1001, 10))
    for picture in (pictures[1], pictures[2].resize((101, 150)), pictures[0].resize((150, 101)), strip):
        expected = Stacked(squares)(picture, seed=0).numpy().astype(int)
        assert abs(alone.pixels(picture) - expected).max() <= 2


def test_the_runner_puts_transparent_pictures_on_white(lstm):
    path, pictures, _ = lstm
    model = autocaption.load(path, "cpu")
    alone = seeing(Square(model.captioner.encoder.image_size))
    clear = pictures[0].resize((150, 101)).convert("RGBA")
    clear.putalpha(99)
    expected = model.prepare(clear).pixels_CHW.numpy().astype(int)
    assert abs(alone.pixels(clear) - expected).max() <= 1


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 65535, 64 * 64).astype(np.uint16),
        *(np.linspace(0, top, 64 * 64).astype(np.int32) for top in (255, 65535, 99999)),
        *(np.linspace(*ends, 64 * 64).astype(np.float32) for ends in ((0, 1), (0, 255), (-3, 5))),
        np.array([np.nan, *range(64 * 64 - 1)], np.float32),
    ],
    ids=lambda values: f"{values.dtype} {values[1]} to {values[-1]}",
)
def test_the_runner_scales_deep_grey_as_training_does(values):
    picture = Image.fromarray(values.reshape(64, 64))
    assert picture.mode in ("I;16", "I", "F")
    expected = Square(64)(as_shown(picture), seed=0).numpy()
    assert (seeing(Square(64)).pixels(picture) == expected).all()


def test_the_runner_writes_what_eval_scores_and_names_what_it_cannot_read(
    lstm, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("onnxruntime")
    from autocaption.data.sources import CaptionedImage
    from autocaption.evaluation.result_file import read_captions
    from autocaption.export import onnx_caption

    def without_graphs(self, folder):
        self.config = {"pictures": [dataclasses.asdict(Square(8))]}

    monkeypatch.setattr(onnx_caption.OnnxCaptioner, "__init__", without_graphs)
    monkeypatch.setattr(
        onnx_caption.OnnxCaptioner, "caption_pixels", lambda self, pixels, beams: [(f"{pixels.shape}", 0.0)]
    )
    files = [tmp_path / name for name in ("a b.png", "c.png")]
    for file, picture in zip(files, lstm[1], strict=False):
        picture.save(file)
    (broken := tmp_path / "broken.png").write_bytes(files[0].read_bytes()[:60])
    words = [str(files[0]), str(broken), str(tmp_path / "none.png"), str(files[1])]
    monkeypatch.setattr("sys.argv", ["caption.py", *words, "--output", str(tmp_path / "captions.json")])
    with pytest.raises(SystemExit, match="2 of 4 pictures"):
        onnx_caption.main()
    printed = capsys.readouterr()
    assert printed.out == "".join(f"{file}\t(3, 8, 8)\n" for file in files)
    assert [line.split(":")[0] for line in printed.err.splitlines()] == words[1:3]
    images = [CaptionedImage(file.stem, file, "val", ()) for file in files]
    found = read_captions(tmp_path / "captions.json", images, "val")
    assert found == {file.stem: "(3, 8, 8)" for file in files}
    assert not list(tmp_path.glob("*.partial"))
    monkeypatch.setattr("sys.argv", ["caption.py", str(files[0]), "--beam-size", "0"])
    with pytest.raises(SystemExit):
        onnx_caption.main()
    assert "--beam-size=0: take 1 or more" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["caption.py", str(files[0]), "--output", str(tmp_path / "no/c.json")])
    with pytest.raises(SystemExit):
        onnx_caption.main()
    assert f"there is no folder {tmp_path / 'no'}" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr("sys.argv", ["caption.py", str(files[0])])  # beside which there is no model
    with pytest.raises(SystemExit, match=r"the model in .* is not whole: .*config.json.*; export it again"):
        onnx_caption.main()
