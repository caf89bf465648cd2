"""When a run's secrets are kept; tests/test_secrets.py interrupts whole runs."""

from types import SimpleNamespace

from autocaption.callbacks.secrets_kept import SecretsKept
from autocaption.runs.kept_secrets import keep, kept

BEFORE, NOW = {"a": {"token": "hunter2"}}, {"a": {"token": "hunter3"}}


def test_a_new_attempt_at_a_run_without_a_checkpoint_keeps_nothing_until_it_saves_one(tmp_path):
    keep(tmp_path, BEFORE)
    callback = SecretsKept(tmp_path, NOW)
    callback.on_fit_start(SimpleNamespace(ckpt_path=None), None)
    assert kept(tmp_path) == {}
    callback.on_save_checkpoint(None, None, {})
    assert kept(tmp_path) == {"a.token": "hunter3"}


def test_a_resumed_run_has_its_new_secrets_at_once(tmp_path):
    keep(tmp_path, BEFORE)
    SecretsKept(tmp_path, NOW).on_fit_start(SimpleNamespace(ckpt_path="last.ckpt"), None)
    assert kept(tmp_path) == {"a.token": "hunter3"}
