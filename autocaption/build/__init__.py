"""Configuration to objects."""

from autocaption.build.data_parts import source_of
from autocaption.build.ensemble_parts import from_checkpoints, require_one_vocabulary
from autocaption.build.model_parts import (
    captioner_of,
    config_of,
    for_pictures,
    from_checkpoint,
    from_config,
    metrics,
    model_of,
)
from autocaption.build.parts import save_config
from autocaption.build.trainer_parts import compiled, fastest, loggers, precision, start_loggers, trainer

__all__ = [
    "captioner_of",
    "compiled",
    "config_of",
    "fastest",
    "for_pictures",
    "from_checkpoint",
    "from_checkpoints",
    "from_config",
    "loggers",
    "metrics",
    "model_of",
    "precision",
    "require_one_vocabulary",
    "save_config",
    "source_of",
    "start_loggers",
    "trainer",
]
