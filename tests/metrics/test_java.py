"""Metrics and the tokenizer that need Java say in one line what is missing."""

import functools
import json
import math
import stat
import zipfile

import pytest
from helpers.scoring import images, metrics

from autocaption.errors import UserError
from autocaption.metrics import java, meteor
from autocaption.metrics.spice import spice
from autocaption.metrics.tokenizers import PtbTokenizer


@pytest.fixture(autouse=True)
def nothing_said():
    java.say_left_out.cache_clear()


@pytest.fixture(name="jars")
def fake_jars(tmp_path, monkeypatch):
    for name in (java.METEOR, java.PTB, java.SPICE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr("autocaption.metrics.java.jar", lambda name: tmp_path / name)
    monkeypatch.setattr("autocaption.metrics.tokenizers.jar", lambda name: tmp_path / name)
    return tmp_path


def fake_java(folder, monkeypatch, script):
    (folder / "java").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "java").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_without_java_the_rest_is_scored_and_a_line_says_so(monkeypatch, caplog):
    monkeypatch.setenv("PATH", "/nowhere")
    found = metrics("full").score(images(["a dog"], [["a dog"]])).scores()
    assert found["bleu1"] == 1
    assert not {"meteor", "spice"} & set(found)
    messages = [record.getMessage() for record in caplog.records]
    metrics("full")  # of another row: all has been said
    assert len(caplog.records) == 2
    assert messages == [
        "METEOR is left out: there is no `java`; install a Java runtime",
        "SPICE is left out: there is no `java`; install a Java runtime",
    ]


def test_without_the_package_its_extra_is_named(monkeypatch, tmp_path):
    fake_java(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr("autocaption.metrics.java.jar", lambda name: tmp_path / name)
    with pytest.raises(UserError, match=r"metrics/tokenizer=ptb cannot run: .*autocaption\[coco\]"):
        PtbTokenizer()


def test_a_tokenizer_that_fails_says_why(jars, monkeypatch):
    fake_java(jars, monkeypatch, "echo 'no main class' >&2; exit 1")
    with pytest.raises(UserError, match=r"failed after 0 of 1 captions: no main class"):
        PtbTokenizer()(["a"])


# It ends while it is asked, at the first image or at the last; or it answers with something else.
@pytest.mark.parametrize("script", ["read line", f"read line; echo {'1 ' * 23}; read line", "cat"])
def test_a_meteor_jar_that_stops_is_said(jars, monkeypatch, script):
    fake_java(jars, monkeypatch, script)
    monkeypatch.setattr("autocaption.metrics.meteor._jar", functools.cache(meteor._jar.__wrapped__))
    rest = metrics()
    rest.image_metrics = [meteor.meteor()]
    with pytest.raises(UserError, match="METEOR's jar has stopped; does it start with 2 GB"):
        rest.score(images(["a dog", "men"], [["a dog"], ["two men"]]))


def test_spice_reads_what_its_jar_writes(jars, monkeypatch):
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (jars / name).touch()
    scores = [{"image_id": i, "scores": {"All": {"f": f}}} for i, f in ((1, 0.5), (2, None), (0, 0.25))]
    (jars / "scores").write_text(json.dumps(scores))
    # java -D... -X... -cp PATH CLASS captions -out scores
    fake_java(jars, monkeypatch, f'cp "$6" {jars}/asked; cp {jars}/scores "$8"')
    metric = spice(str(jars))
    rest = metrics()
    rest.image_metrics = [metric]
    scored = rest.score(images(["a Dog", "men", ""], [["a dog.", "x"], ["two men"], ["there"]]))
    assert scored.per_image()["spice"].tolist() == pytest.approx([0.25, 0.5, math.nan], nan_ok=True)
    assert scored.scores()["spice"] == 0.375  # null is its score where no caption names a thing
    assert json.loads((jars / "asked").read_text())[0] == {
        "image_id": 0,
        "test": "a dog",
        "refs": ["a dog", "x"],
    }


@pytest.mark.parametrize(
    ("version", "holds", "left_out"),
    [
        ("17.0.15", "META-INF/services/javax.script.ScriptEngineFactory", False),
        ("17.0.15", "META-INF/MANIFEST.MF", True),
        ("14.0.2", "META-INF/MANIFEST.MF", False),
        ("1.8.0_292", "META-INF/MANIFEST.MF", False),
    ],
)
def test_spice_needs_a_java_that_its_jar_can_write_with(jars, monkeypatch, caplog, version, holds, left_out):
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (jars / name).touch()
    with zipfile.ZipFile(jars / "engine.jar", "w") as engine:
        engine.writestr(holds, "")
    fake_java(jars, monkeypatch, f"""echo 'openjdk version "{version}" 2020-01-01' >&2""")
    assert (spice(str(jars)) is None) == left_out
    assert ("SPICE is left out: its jar needs Java 8 to 14, and `java` is Java 17" in caplog.text) == left_out


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "Parsing captions\\nError: Could not score\\njava.lang.OutOfMemoryError: heap\\n\\tat X' >&2",
            "Error: Could not score java.lang.OutOfMemoryError: heap",
        ),
        (  # what Java itself says before it starts goes to stdout
            "Error occurred during initialization of VM\\nToo small initial heap'",
            "Error occurred during initialization of VM Too small initial heap",
        ),
        (
            'Exception in thread "main" X\\n\\tat Y\\nCaused by: Z\' >&2',
            'Exception in thread "main" X Caused by: Z',
        ),
        ("' >&2", "no message"),
    ],
)
def test_a_spice_jar_that_fails_says_why(jars, monkeypatch, said, line):
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (jars / name).touch()
    fake_java(jars, monkeypatch, f"[ $1 = -version ] || {{ printf '{said}; exit 1; }}")
    rest = metrics()
    rest.image_metrics = [spice(str(jars))]
    with pytest.raises(UserError, match=f"^SPICE's jar failed: {line}$"):
        rest.score(images(["a dog"], [["a dog"]]))


def test_spice_without_corenlp_is_left_out_and_with_a_wrong_folder_refused(jars, monkeypatch, caplog):
    fake_java(jars, monkeypatch, "exit 0")
    assert spice(None) is None
    assert "SPICE is left out: no folder with CoreNLP" in caplog.text
    fake_java(jars, monkeypatch, "echo 'openjdk version \"17.0.1\"' >&2")
    with pytest.raises(UserError, match="no CoreNLP in"):
        spice(str(jars))
