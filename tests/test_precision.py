"""The precision that `auto` chooses."""

import pytest
import torch

from autocaption.precision import fastest_precision


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16", "avx512_f"])
def test_bf16_where_the_processor_multiplies_it(name, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, name: True}, raising=False)
    assert fastest_precision("cpu") == ("32-true" if name == "avx512_f" else "bf16-mixed")


def test_fp32_where_nothing_is_known(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert fastest_precision("cpu") == "32-true"
    assert fastest_precision("mps") == "32-true"
