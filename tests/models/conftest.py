import pytest
import torch
from helpers.decoders import DOUBLE, D, P, ragged


@pytest.fixture(name="memory_BPD")
def memory():
    torch.manual_seed(1)
    return torch.randn(3, P, D, dtype=DOUBLE)


@pytest.fixture(name="tokens_BNT")
def tokens():
    torch.manual_seed(2)
    return ragged([5, 1, 3, 0], [0, 7, 2, 7], [0, 0, 0, 0])
