"""What test modules share."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
PATIENCE = 240  # seconds that anything may take on a busy machine
