"""What the commands say to a user's mistake."""

import pytest
from helpers.commands import run
from PIL import Image

MISTAKES = {
    "optimzer.lr=1": "optimzer.lr",
    "model/decoder=lstn": "lstm",
    "data=flickr8k": "data.root",
    "resume=nowhere.ckpt": "nowhere.ckpt",
    "resume=last": "is left to resume",
}


@pytest.mark.parametrize(("word", "named"), MISTAKES.items())
def test_a_mistake_is_one_line(word, named, tmp_path):
    done = run("train.py", word, cwd=tmp_path)
    assert done.returncode == 1
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 broken zip"])
def test_file_that_is_no_checkpoint_is_one_line(content, tmp_path):
    (tmp_path / "other.ckpt").write_bytes(content)
    done = run("eval.py", "checkpoint=other.ckpt", cwd=tmp_path)
    assert done.returncode == 1
    assert "other.ckpt" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


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
    done = run("train.py", "data=flickr8k", f"data.root={tmp_path}", "logger=csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "c.jpg" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_traceback_only_with_the_debug_variable(tmp_path):
    done = run("train.py", "resume=nowhere.ckpt", cwd=tmp_path, AUTOCAPTION_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
