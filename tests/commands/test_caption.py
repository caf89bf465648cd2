"""`autocaption caption`: what people type, and what they read."""

import json
import os
import shutil

import pytest
from helpers.checkpoints import pictures_of, save_tiny
from helpers.scripts import run_here
from PIL import Image

import autocaption


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a checkpoint and pictures, two of which are broken."""
    folder = tmp_path_factory.mktemp("shell")
    _, _, data = save_tiny(folder)
    (folder / "pictures/more").mkdir(parents=True)
    for i, picture in enumerate(pictures_of(data, "val")):
        picture.save(folder / f"pictures/{i}.png")
    picture.save(folder / "pictures/more/last.JPG")
    (folder / "pictures/notes.txt").write_text("no picture")
    (folder / "pictures/.hidden.png").write_bytes(b"")
    (folder / "broken.png").write_bytes((folder / "pictures/0.png").read_bytes()[:60])
    return folder


PICTURES = [*(f"pictures/{i}.png" for i in range(7)), "pictures/more/last.JPG"]


def caption(folder, *words):
    return run_here("-m", "autocaption", "caption", *words, "--checkpoint", "some.ckpt", cwd=folder)


def test_a_folder_gives_a_line_a_picture(folder):
    done = caption(folder, "pictures", "--batch-size", "3", "--k", "2")
    assert (done.returncode, done.stderr) == (0, "")
    model = autocaption.load(folder / "some.ckpt", "cpu")
    expected = model.caption([folder / picture for picture in PICTURES], k=2)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    texts = [[one.text for one in two] for two in expected]
    assert lines == [[picture, *two] for picture, two in zip(PICTURES, texts, strict=True)]


@pytest.mark.parametrize("words", [["pictures"], ["pictures/*.png", "pictures/**/*.JPG"], PICTURES])
def test_folders_patterns_and_files_name_pictures_once(folder, words):
    done = caption(folder, *words, PICTURES[0])
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == PICTURES


def test_json_has_scores_and_probabilities(folder):
    done = caption(
        folder, PICTURES[0], "--json", "--k", "2", "--search", "beam", "--set", "length_penalty=0.5"
    )
    found = json.loads(done.stdout)
    model = autocaption.load(folder / "some.ckpt", "cpu")
    expected = model.caption(folder / PICTURES[0], k=2, search="beam", length_penalty=0.5)
    assert found["image"] == PICTURES[0]
    for one, other in zip(found["captions"], expected, strict=True):
        values = (other.text, other.score, other.probability)
        assert (one["caption"], one["score"], one["probability"]) == values


def test_json_is_json_whatever_a_picture_is_called(folder):
    name = os.fsdecode(b"caf\xe9.png")
    shutil.copy(folder / PICTURES[0], folder / name)
    try:
        done = caption(folder, name, "--json")
    finally:
        (folder / name).unlink()
    assert json.loads(done.stdout.encode())["image"] == name


def test_json_has_no_score_where_no_caption_is_allowed(folder):
    settings = [f"--set={setting}" for setting in ("min_length=300", "max_length=300", "no_repeat_ngram=1")]
    done = caption(folder, PICTURES[0], "--json", "--search", "greedy", *settings)
    (found,) = json.loads(done.stdout, parse_constant=pytest.fail)["captions"]
    assert (found["score"], found["probability"]) == (None, 0)


def test_what_cannot_be_read_is_named_and_the_rest_captioned(folder):
    done = caption(folder, PICTURES[0], "broken.png", "gone.jpg", PICTURES[1])
    assert done.returncode == 1
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == PICTURES[:2]
    broken, gone, total = done.stderr.splitlines()
    assert broken.startswith("error: broken picture: broken.png: ")
    assert gone.startswith("error: picture not found: gone.jpg")
    assert total == "error: 2 of 4 pictures could not be read"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["*.gif"], "nothing fits the pattern *.gif"),
        ([""], "PICTURE=: give a path"),  # as of a variable that is not set; and not all of this folder
        (["pictures/nothing/"], "picture not found: pictures/nothing"),
        ([PICTURES[0], "--k", "2", "--search", "greedy"], "search=greedy gives 1"),
        ([PICTURES[0], "--set", "heat=1"], "has no setting heat"),
        ([PICTURES[0], "--batch-size", "0"], "--batch-size=0"),
        ([PICTURES[0], "--device", "abacus"], "device=abacus"),
    ],
)
def test_a_mistake_is_one_line(folder, words, message):
    done = caption(folder, *words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_an_empty_folder_is_a_mistake(folder, tmp_path):
    done = caption(folder, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no pictures in the folder {tmp_path}" in done.stderr


def test_the_command_lists_its_commands(tmp_path):
    done = run_here("-m", "autocaption", "--help", cwd=tmp_path)
    for name in ("train", "eval", "sweep", "data", "caption", "serve", "export"):
        assert f"  {name}" in done.stdout
    assert run_here("-m", "autocaption", cwd=tmp_path).stdout == done.stdout
    assert run_here("-m", "autocaption", "--version", cwd=tmp_path).stdout.strip() == autocaption.__version__
    wrong = run_here("-m", "autocaption", "trian", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "there is no command trian; take train, " in wrong.stderr
    (tmp_path / "some.ckpt").touch()
    earlier = run_here("-m", "autocaption", "some.ckpt", "ok.jpg", "broken.jpg", cwd=tmp_path)
    assert (earlier.returncode, earlier.stdout) == (1, "")
    assert earlier.stderr.strip().endswith("autocaption caption IMAGE... --checkpoint some.ckpt")


def test_train_is_train_py(tmp_path):
    done = run_here("-m", "autocaption", "train", "--cfg", "job", "seed=3", cwd=tmp_path)
    assert done.returncode == 0
    assert "seed: 3" in done.stdout
    wrong = run_here("-m", "autocaption", "eval", "chekpoint=x", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)


def test_black_is_a_picture_too(folder):
    Image.new("L", (1, 1)).save(folder / "dot.bmp")
    assert caption(folder, "dot.bmp").stdout.startswith("dot.bmp\t")
