"""Runs command lines of the project in this process, which saves the seconds that importing torch takes."""

import contextlib
import io
import logging
import os
import runpy
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from hydra.core.hydra_config import HydraConfig

from autocaption.runs.folder import new_run_name
from helpers import ROOT


def run_here(*words, cwd):
    """Run `python WORDS` (a script of the project, or -m MODULE): returncode, stdout, stderr.

    Arguments, output, environment, logging and warnings are as in a process of its own, and are put back.
    """
    words = [str(word) for word in words]
    out, err, root = io.StringIO(), io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    new_run_name.cache_clear()  # a new process, a new run folder
    module, arguments = (words[1], words[2:]) if words[0] == "-m" else (None, words[1:])
    script = Path(cwd) / words[0] if (Path(cwd) / words[0]).exists() else ROOT / words[0]
    code = 0
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, {"WANDB_MODE": "offline"}),
        mock.patch.object(sys, "argv", [str(script), *arguments]),
        mock.patch.object(HydraConfig.instance(), "cfg", None),
        warnings.catch_warnings(),
    ):
        try:
            if module is not None:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=err)
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())
