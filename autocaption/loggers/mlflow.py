"""MLflow as a logger."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger

from autocaption.errors import UserError


def mlflow_logger(
    folder: str, tags: Sequence[str], tracking_uri: str | None, **settings: Any
) -> MLFlowLogger:
    """MLflow, to a server, or to a database in the run folder; each attempt is a run of the folder's name.

    MLflow would draw the name from Python's generator, so that all runs of a seed had the same.

    Args:
        folder: the run folder.
        tags: the run's tags, which become the MLflow tag `tags`, separated by commas.
        tracking_uri: the address of a server; None for the database.
        settings: passed on to MLFlowLogger, such as experiment_name and run_name.

    Raises:
        UserError: MLflow is not installed.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # or it tells of each table that it creates
    uri = tracking_uri or f"sqlite:///{Path(folder).absolute() / 'mlflow.db'}"
    artifacts = None if tracking_uri else str(Path(folder).absolute() / "mlflow")
    try:
        return MLFlowLogger(
            tracking_uri=uri,
            artifact_location=artifacts,
            tags={"tags": ",".join(tags)} if tags else None,
            **{"run_name": Path(folder).name, **settings},
        )
    except ModuleNotFoundError:
        raise UserError("logger=mlflow needs MLflow: pip install 'autocaption[mlflow]'") from None
