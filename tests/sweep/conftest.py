import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the two modules beside this one

from sweep_processes import Sweeps


@pytest.fixture
def sweeps(tmp_path):
    """Sweeps in a folder of their own; what still runs at the end is ended."""
    made = Sweeps(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()
