"""The code of a run: its commit, and what git doesn't have."""

import subprocess

import pytest

from autocaption.runs import source_code
from autocaption.runs.provenance import record_start
from autocaption.runs.source_code import git_state, keep_code, kept_code


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Runs git in tmp_path/project, a new repository with one commit of a package and its conf."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where tests run from a git hook
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    project = tmp_path / "project"
    (project / "autocaption/decoders").mkdir(parents=True)
    (project / "conf/data").mkdir(parents=True)

    def git(*words):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.check_output(command, cwd=project, text=True).strip()

    git("init", "-q")
    (project / "autocaption/decoders/lstm.py").write_text("token = 1\n")
    (project / "conf/data/web.yaml").write_text("url: http://x\npassword: null\n")
    (project / ".gitignore").write_text("conf/local\n")
    (project / "README.md").write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "one", "--no-verify", "--no-gpg-sign")
    return git


@pytest.fixture
def project(git, tmp_path):
    return tmp_path / "project"


def kept(project, tmp_path):
    """The state of git; keeps the code of an attempt, as a run does at its start."""
    state = keep_code(project, tmp_path / "run")
    (tmp_path / "run").mkdir(exist_ok=True)
    record_start(tmp_path / "run/provenance.json", git=state)
    return state


def test_a_clean_tree_is_its_commit(git, project, tmp_path):
    (project / "README.md").write_text("2\n")  # no source
    (project / "conf/local").mkdir()
    (project / "conf/local/default.yaml").write_text("secret: hunter2\n")  # ignored by git
    expected = {"commit": git("rev-parse", "HEAD"), "changed": False, "untracked": []}
    assert git_state(project) == expected
    assert kept(project, tmp_path) == expected
    assert kept_code(tmp_path / "run") is None


def test_a_patch_gives_the_changed_files_again(git, project, tmp_path):
    (project / "autocaption/decoders/lstm.py").write_text("token = 2\n")
    assert kept(project, tmp_path)["changed"]
    git("checkout", "-q", ".")
    git("apply", str(kept_code(tmp_path / "run") / "changes.patch"))
    assert (project / "autocaption/decoders/lstm.py").read_text() == "token = 2\n"


def test_new_files_of_package_and_conf_are_changes(project, tmp_path):
    new = {"autocaption/decoders/mine.py": "class Mine: ...\n", "conf/data/mine.yaml": "a: 1\n"}
    for name, text in {**new, "results.json": "{}"}.items():
        (project / name).write_text(text)
    state = kept(project, tmp_path)
    assert (state["changed"], state["untracked"], state["left_out"]) == (True, sorted(new), [])
    code = kept_code(tmp_path / "run")
    found = {str(path.relative_to(code)): path.read_text() for path in code.rglob("*") if path.is_file()}
    assert found == new


def test_new_files_are_kept_by_any_name_and_whatever_git_status_shows(git, project, tmp_path):
    git("config", "status.showUntrackedFiles", "no")
    names = ["autocaption/café.py", 'autocaption/a "b".py']
    for name in names:
        (project / name).write_text("1\n")
    state = kept(project, tmp_path)
    assert (state["untracked"], state["left_out"]) == (sorted(names), [])
    assert all((kept_code(tmp_path / "run") / name).read_text() == "1\n" for name in names)


@pytest.mark.parametrize(
    "setting", [("diff.external", "echo"), ("color.ui", "always"), ("diff.noprefix", "true")]
)
def test_a_patch_can_be_applied_whatever_the_user_has_made_of_git_diff(git, project, tmp_path, setting):
    git("config", *setting)
    test_a_patch_gives_the_changed_files_again(git, project, tmp_path)


def test_each_attempt_keeps_its_own(project, tmp_path):
    for attempt in (1, 2):
        (project / "autocaption/new.py").write_text(f"{attempt}\n")
        kept(project, tmp_path)
    assert kept_code(tmp_path / "run") == tmp_path / "run/code/2"
    assert (tmp_path / "run/code/1/autocaption/new.py").read_text() == "1\n"
    (project / "autocaption/new.py").unlink()
    kept(project, tmp_path)
    assert kept_code(tmp_path / "run") is None


def test_secrets_of_configurations_are_left_out(project, tmp_path):
    (project / "conf/data/web.yaml").write_text("url: http://me:hunter2@x\npassword: hunter2\n")
    (project / "conf/data/new.yaml").write_text("a:\n  api_key: hunter2\n  token: ${oc.env:TOKEN}\n")
    kept(project, tmp_path)
    code = kept_code(tmp_path / "run")
    patch, new = (code / "changes.patch").read_text(), (code / "conf/data/new.yaml").read_text()
    assert "hunter2" not in patch + new
    assert "+password: <hidden>" in patch
    assert "-password: null" in patch
    assert "token: ${oc.env:TOKEN}" in new


def test_what_is_too_large_is_named_and_left_out(project, tmp_path, monkeypatch):
    monkeypatch.setattr(source_code, "LIMIT", 400)
    (project / "autocaption/decoders/lstm.py").write_text("x = 1\n" * 100)
    for name, size in (("a", 300), ("b", 300), ("c", 90)):
        (project / f"autocaption/{name}.py").write_text("#" * size)
    state = kept(project, tmp_path)
    assert state["left_out"] == ["changes.patch", "autocaption/b.py"]
    assert {path.name for path in kept_code(tmp_path / "run").rglob("*.*")} == {"a.py", "c.py"}


def test_outside_of_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("GIT_DIR", raising=False)
    assert git_state(tmp_path) == {"commit": None, "changed": False, "untracked": []}


def test_a_package_that_git_ignores_has_no_commit(project):
    installed = project / "conf/local/site-packages"  # as in a virtual environment within a repository
    (installed / "autocaption").mkdir(parents=True)
    (installed / "autocaption/new.py").write_text("")
    assert git_state(installed)["commit"] is None


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path)["commit"] is None
