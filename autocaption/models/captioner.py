"""The LightningModule: wiring and logging, no arithmetic.

Legend: B images, K captions of a search, T time, P places, D width, M real tokens, V vocabulary.
"""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.utilities.enums import GradClipAlgorithmType
from torch import Tensor, nn
from torchmetrics import Metric

from autocaption.checks import number
from autocaption.data.batch import Batch
from autocaption.data.datamodule import CaptionDataModule
from autocaption.data.samplers import Weights
from autocaption.data.sources import ImageId
from autocaption.data.tokenizer import Tokenizer
from autocaption.errors import UserError
from autocaption.models.losses import SplitLoss, cross_entropy, teacher_forced
from autocaption.models.optimization import Optimization, clip_gradients
from autocaption.models.protocols import Captions, Criterion, Decoder, Encoder, Objective
from autocaption.models.sharding import gather, is_sharded, shard

RECIPE, METRICS = "recipe", "metrics"  # keys in a checkpoint
SHOWN = ("loss", "reward")  # of what a training step logs, on the progress bar


class Predictions(NamedTuple):
    """Generated captions of a batch: the outputs of a validation or test step, which callbacks get.

    `tokens_BT` and `memory` let a callback ask the decoder about them; they may lie on a GPU, so that a
    callback that keeps predictions drops them.
    """

    ids: tuple[ImageId, ...]
    captions: list[str]
    references: tuple[tuple[str, ...], ...]
    tokens_BT: Tensor | None = None  # of the captions, as in Captions
    memory: Any = None


class Captioner(pl.LightningModule):
    """Encoder and decoder wired to loss, search, metrics and optimizer.

    Args:
        encoder: pictures to memory (protocols.Encoder).
        decoder: memory to words (protocols.Decoder).
        loss: what training minimises (protocols.Criterion).
        search: (decoder, memory_BPD) to Captions.
        tokenizer: token ids to captions.
        metrics: compares generated captions with references (metrics/caption_metrics.py); cloned for val
            and test.
        optimizer: parameter groups to optimizer.
        learning_rates: rates of parts of the model, as shares of the optimizer's (optim.py).
        layer_decay: the rate of each layer of the encoder as a share of that of the next.
        schedule: (optimizer, total_steps) to a learning-rate schedule that is stepped every step.
        scheduled_sampling: the share of input tokens sampled from the model at the end of training; it
            rises linearly from 0.
        recipe: plain values from which the model can be rebuilt (configuration, vocabulary); every
            checkpoint holds them.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        loss: Criterion,
        search: Callable[..., Captions],
        tokenizer: Tokenizer,
        metrics: Metric,
        optimizer: Callable[..., torch.optim.Optimizer],
        learning_rates: Mapping[str, float],
        layer_decay: float,
        schedule: Callable[..., Any],
        scheduled_sampling: float,
        recipe: dict[str, Any],
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.loss = encoder, decoder, loss
        self.search, self.tokenizer, self.recipe = search, tokenizer, recipe
        self.optimization = Optimization(optimizer, learning_rates, layer_decay, schedule)
        self.scheduled_sampling = number("scheduled_sampling", scheduled_sampling, 0, 1)
        self.metrics: Any = nn.ModuleDict({stage: metrics.clone() for stage in ("val", "test")})
        self.nll: Any = nn.ModuleDict({stage: SplitLoss() for stage in self.metrics})
        self._objective: Objective | None = None  # of the step under way

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = "cpu", *, weights_only: bool = True, **parts: Any
    ) -> "Captioner":
        """The model of a checkpoint, which carries all that it is made of.

        Args:
            checkpoint_path: a file of a run's checkpoints/.
            map_location: the device.
            weights_only: always true: checkpoints hold plain values and tensors.
            parts: arguments of the constructor in place of the checkpoint's, such as `search` or `metrics`.

        Raises:
            UserError: the file is missing, damaged, or no checkpoint of autocaption.
        """
        # By name, as configurations name parts: what builds a model is a layer above it.
        build = importlib.import_module("autocaption.build")
        return build.captioner_of(checkpoint_path, **parts).to(map_location)

    @property
    def lr(self) -> float | None:
        """The peak learning rate, where Lightning's learning-rate finder looks for it."""
        return self.optimization.lr

    @lr.setter
    def lr(self, rate: float) -> None:
        self.optimization.lr = rate

    def setup(self, stage: str) -> None:
        """Sum losses in double precision."""
        if self.device.type != "mps":  # which has none
            for loss in self.nll.values():
                loss.set_dtype(torch.float64)

    def configure_model(self) -> None:
        """Shard the weights, where the Trainer's strategy has made a mesh of the ranks for that."""
        if self.device_mesh is not None and not is_sharded(self):
            for part in (self.encoder, self.decoder):
                shard(part, self.device_mesh["data_parallel"])  # type: ignore[arg-type]

    def memory(self, batch: Batch) -> Tensor:
        """memory_BPD, from features where the batch holds them."""
        if batch.features_BPD is not None:
            return batch.features_BPD.to(self.dtype)  # stored in half precision
        assert batch.images_BCHW is not None
        return self.encoder(batch.images_BCHW)

    def caption(self, memory_BPD: Any, ids: Sequence[ImageId] | None = None) -> list[str]:
        """The best caption of each image."""
        return [best for best, *_ in self.captions(memory_BPD, ids)]

    def captions(self, memory_BPD: Any, ids: Sequence[ImageId] | None = None) -> list[list[str]]:
        """All captions that the search finds for each image, the best one first."""
        return self._texts(self.search(self.decoder, memory_BPD, ids))

    def _texts(self, found: Captions) -> list[list[str]]:
        images = zip(found.tokens_BKT.tolist(), found.exist_BK.tolist(), strict=True)
        return [
            [self.tokenizer.decode(tokens) for tokens, exists in zip(*image, strict=True) if exists]
            for image in images
        ]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective, as it counts in its optimizer step; logged are the means of this batch."""
        sampled_share = 0.0
        if self.scheduled_sampling:
            steps = self.trainer.estimated_stepping_batches
            sampled_share = self.scheduled_sampling * self.trainer.global_step / steps
        objective = self.loss(self.decoder, self.memory(batch), batch, sampled_share)
        self._objective = objective
        data = self._data()
        return objective.total(*(Weights() if data is None else data.weights(batch_idx)))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log what the step gave where it is read: by a logger, beside a validation, or after the epoch.

        A value costs the host about a millisecond, in which a GPU has nothing to do.
        """
        trainer: Any = self.trainer
        objective, self._objective = self._objective, None
        step, every = trainer.global_step, trainer.log_every_n_steps
        interval = trainer.val_check_batch or math.inf  # None: by time
        ends = trainer.is_last_batch or trainer.should_stop or step == trainer.max_steps
        ends = ends or (batch_idx + 1) % interval == 0
        if objective is not None and (ends or (every and not step % every)):
            self.log("train/objective", objective.total().detach())
            for name, value in objective.logged.items():
                self.log(f"train/{name}", value, prog_bar=name in SHOWN)

    def _data(self) -> CaptionDataModule | None:
        """The data of our own; None where the user brings other loaders."""
        data = getattr(self.trainer, "datamodule", None)
        return data if isinstance(data, CaptionDataModule) else None

    def on_validation_start(self) -> None:
        """Give all ranks the BatchNorm statistics that the first rank saves, and all weights."""
        gather(self, whole=True)
        if dist.is_initialized():
            for buffer in self.buffers():
                dist.broadcast(buffer, 0)

    on_test_start = on_validation_start

    def on_validation_end(self) -> None:
        """Shard the weights again."""
        gather(self, whole=False)

    on_test_end = on_validation_end

    def validation_step(self, batch: Batch, batch_idx: int) -> Predictions:  # type: ignore[override]
        """Generate captions and update the metrics."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Predictions:  # type: ignore[override]
        """Generate captions and update the metrics."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Predictions:
        """Generate captions of a batch, or of images_BCHW (uint8) alone, and compare them with nothing."""
        if isinstance(batch, Tensor):
            return Predictions((), self.caption(self.encoder(batch)), ())
        captions = self.caption(self.memory(batch), batch.ids) if len(batch) else []
        return Predictions(batch.ids, captions, batch.references)

    def _evaluate(self, batch: Batch, stage: str) -> Predictions:
        if not len(batch):  # a rank without images; it takes part in what ranks compute together
            return Predictions((), [], ())
        memory_BPD = self.memory(batch)
        logits_MV, targets_M, _ = teacher_forced(self.decoder, memory_BPD, batch.tokens_BNT, batch.layout)
        self.nll[stage].update(cross_entropy(logits_MV, targets_M).nll, len(targets_M))
        found = self.search(self.decoder, memory_BPD, batch.ids)
        captions = self._texts(found)
        self.metrics[stage].update(captions, batch.references, batch.ids)
        best, best_BT = [best for best, *_ in captions], found.tokens_BKT[:, 0]
        return Predictions(batch.ids, best, batch.references, best_BT, memory_BPD)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the split."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the split."""
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        # `compute` adds up all ranks, so these are metrics of the whole split.
        nll = self.nll[stage].compute()
        scores = {name: float(score) for name, score in self.metrics[stage].compute().items()}
        metrics = {"loss": nll, "perplexity": nll.exp(), **scores}
        data = self._data()
        split = stage if data is None else data.split_of(stage)
        self.log_dict({f"{split}/{name}": value for name, value in metrics.items()})
        for metric in (self.nll, self.metrics):
            metric[stage].reset()
        self._require_finite(f"{split}/loss", nll)

    def on_train_epoch_end(self) -> None:
        """Stop where the objective is not a number; checked once an epoch, since it waits for the device."""
        objective = self.trainer.callback_metrics.get("train/objective")
        if objective is not None:
            self._require_finite("train/objective", objective)

    def _require_finite(self, name: str, value: Tensor) -> None:
        if not value.isfinite():
            raise UserError(
                f"{name} is not a number after epoch {self.trainer.current_epoch + 1}; "
                "lower optimizer.lr, or set trainer.gradient_clip_val"
            )

    def optimizer_and_schedule(self, total_steps: float) -> tuple[torch.optim.Optimizer, Any]:
        """The optimizer over the trainable parameters, and its schedule; see `Optimization.make`."""
        layers = {f"encoder.{name}": layer for name, layer in getattr(self.encoder, "layers", {}).items()}
        return self.optimization.make(self, layers, total_steps)

    def configure_optimizers(self) -> Any:
        """The optimizer over the trainable parameters, and a schedule stepped every step."""
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps) and self.scheduled_sampling:
            raise UserError(
                "scheduled_sampling rises until the last step; set trainer.max_epochs or max_steps"
            )
        optimizer, schedule = self.optimizer_and_schedule(steps)
        self.optimization.use(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """After a resume, let optimizer and schedule follow the configuration rather than the checkpoint."""
        self.optimization.restored(self.trainer.optimizers[0], self.lr_schedulers())

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip as the Trainer is configured; Lightning (2.6) refuses to with a fused optimizer in fp16."""
        by_value = gradient_clip_algorithm == GradClipAlgorithmType.VALUE
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        clip_gradients(optimizer, gradient_clip_val, by_value, scaler)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the recipe, so that the checkpoint alone is enough to caption an image, and the metrics."""
        checkpoint[RECIPE] = self.recipe
        metrics = self.trainer.callback_metrics
        checkpoint[METRICS] = {name: float(value) for name, value in metrics.items() if "val/" in name}
