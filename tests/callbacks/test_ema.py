"""Averaged weights: the average by hand, exact resumes, and exceptions anywhere in a training."""

import signal
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from helpers.ranks import on_ranks
from pytorch_lightning.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from autocaption.callbacks.ema import ExponentialMovingAverage, averaged
from autocaption.models.sharding import gather, gathered, shard


class Line(pl.LightningModule):
    """Fits a line, with BatchNorm and a frozen part; keeps the weights that it was validated with."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.after_steps, self.validated = [], []

    def training_step(self, batch, batch_idx):
        x, y = batch
        return (self.net(self.frozen(x)).squeeze(1) - y).square().mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append(copy_of(self))

    test_step = validation_step

    def on_train_batch_end(self, *_):
        self.after_steps.append((self.trainer.global_step, copy_of(self)))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def copy_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def loader():
    random = torch.Generator().manual_seed(1)
    data = torch.randn(24, 3, generator=random), torch.randn(24, generator=random)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=4)


def trainer_of(folder, *callbacks, epochs=2, **options):
    return pl.Trainer(
        **{"accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0, **options},
        **{"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder},
        max_epochs=epochs,
        callbacks=list(callbacks),
    )


def fit(folder, epochs, path=None, decay=0.9, **options):
    """(the module, its last checkpoint) of a training."""
    model, keeper = Line(), ModelCheckpoint(folder, save_last=True, every_n_epochs=1)
    trainer = trainer_of(folder, ExponentialMovingAverage(decay), keeper, epochs=epochs, **options)
    trainer.fit(model, loader(), loader(), ckpt_path=path, weights_only=True)
    return model, torch.load(folder / "last.ckpt", weights_only=True)


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in b)


def by_hand(after_steps, decay):
    """The average of the floating-point tensors after these steps, and the number of steps."""
    average, steps = copy_of(Line()), 0
    for step, weights in after_steps:
        if step > steps:
            steps, d = step, min(decay, (1 + step) / (10 + step))
            for name, weight in weights.items():
                if weight.is_floating_point():
                    average[name] = d * average[name] + (1 - d) * weight
    return {name: value for name, value in average.items() if value.is_floating_point()}, steps


@pytest.mark.parametrize(("accumulate", "precision"), [(1, "32-true"), (2, "32-true"), (1, "bf16-mixed")])
def test_average_follows_its_definition(tmp_path, accumulate, precision):
    model, saved = fit(tmp_path, 2, decay=0.3, accumulate_grad_batches=accumulate, precision=precision)
    expected, steps = by_hand(model.after_steps, 0.3)
    assert steps == 12 // accumulate
    for name, value in expected.items():
        torch.testing.assert_close(saved["state_dict"][name], value, atol=1e-6, rtol=1e-5)
    # The last validation, the checkpoint and the module after training have the average.
    assert equal(saved["state_dict"], model.validated[-1])
    assert equal(saved["state_dict"], copy_of(model))
    assert not torch.equal(saved["state_dict"]["net.0.weight"], model.after_steps[-1][1]["net.0.weight"])


def test_training_is_the_same_with_any_decay(tmp_path):
    averaged, _ = fit(tmp_path / "a", 2, decay=0.9)
    other, _ = fit(tmp_path / "b", 2, decay=0.1)
    for (_, a), (_, b) in zip(averaged.after_steps, other.after_steps, strict=True):
        assert equal(a, b)


def test_frozen_parameters_are_not_copied(tmp_path):
    _, saved = fit(tmp_path, 1)
    assert "frozen.weight" in saved["state_dict"]
    assert not [name for name in saved["ema_weights"] if name.startswith("frozen")]
    assert "net.1.running_mean" in saved["ema_weights"]


@pytest.mark.parametrize(("sanity_steps", "accumulate"), [(0, 1), (2, 1), (0, 2)])
def test_resumed_training_equals_an_uninterrupted_one(tmp_path, sanity_steps, accumulate):
    options = {"num_sanity_val_steps": sanity_steps, "accumulate_grad_batches": accumulate}
    whole, expected = fit(tmp_path / "whole", 3, **options)
    fit(tmp_path / "parts", 1, **options)
    resumed, saved = fit(tmp_path / "parts", 3, tmp_path / "parts/last.ckpt", **options)
    assert equal(saved["state_dict"], expected["state_dict"])
    assert equal(saved["ema_weights"], expected["ema_weights"])
    assert equal(copy_of(resumed), copy_of(whole))
    assert equal(resumed.after_steps[-1][1], whole.after_steps[-1][1])


def test_validate_and_test_alone_leave_the_module_as_it_is(tmp_path):
    model, ema = Line(), ExponentialMovingAverage(0.9)
    trainer = trainer_of(tmp_path, ema)
    trainer.fit(model, loader(), loader())
    average = copy_of(model)
    for run in (trainer.validate, trainer.test):
        run(model, loader(), verbose=False)
        assert equal(model.validated[-1], average)
        assert equal(copy_of(model), average)
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    assert equal(torch.load(tmp_path / "after.ckpt", weights_only=True)["state_dict"], average)


def test_training_after_a_test_of_a_checkpoint_starts_from_its_average(tmp_path):
    class Still(Line):
        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0)

    _, saved = fit(tmp_path, 1)
    model, trainer = Still(), trainer_of(tmp_path, ExponentialMovingAverage(0.9))
    trainer.test(model, loader(), ckpt_path=tmp_path / "last.ckpt", weights_only=True, verbose=False)
    trainer.fit(model, loader())
    assert torch.equal(model.after_steps[-1][1]["net.0.weight"], saved["state_dict"]["net.0.weight"])


def test_hooks_of_a_validation_may_be_called_twice(tmp_path):
    class Again(pl.Callback):
        def on_validation_start(self, trainer, pl_module):
            ema.on_validation_start(trainer, pl_module)

        def on_validation_end(self, trainer, pl_module):
            ema.on_validation_end(trainer, pl_module)

    ema, model = ExponentialMovingAverage(0.9), Line()
    trainer_of(tmp_path, ema, Again()).fit(model, loader(), loader())
    plain, _ = fit(tmp_path, 2)
    assert equal(model.after_steps[-1][1], plain.after_steps[-1][1])
    assert equal(model.validated[-1], plain.validated[-1])


class Raises(pl.Callback):
    """Raises in one of the hooks, once the training has reached an epoch."""

    def __init__(self, hook, error, epoch=1):
        setattr(self, hook, self.fail)
        self.error, self.epoch = error, epoch

    def fail(self, trainer, *_, **__):
        if trainer.current_epoch >= self.epoch:
            raise self.error


class Keeps(OnExceptionCheckpoint):
    """Also keeps the weights that the module has when the checkpoint is saved."""

    def on_exception(self, trainer, pl_module, *_):
        self.weights = copy_of(pl_module)
        super().on_exception(trainer)


@pytest.fixture
def _ctrl_c():
    """Lightning ignores further signals after the first Ctrl-C; undo that."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def interrupted(folder, *callbacks, model=None, path=None, **options):
    """(the module, the checkpoint saved on its exception) of a training that raises."""
    model, keeper = model or Line(), Keeps(folder, "kept")
    trainer = trainer_of(folder, *callbacks, keeper, epochs=3, **options)
    with pytest.raises((RuntimeError, SystemExit)):
        trainer.fit(model, loader(), loader(), ckpt_path=path, weights_only=True)
    assert equal(copy_of(model), keeper.weights)
    return model, torch.load(folder / "kept.ckpt", weights_only=True)


def assert_live(model, saved):
    """The module holds its live weights, and the checkpoint the average as the model."""
    (_, weights), (average, _) = model.after_steps[-1], by_hand(model.after_steps, 0.9)
    assert equal(copy_of(model), weights)
    for name, value in average.items():
        torch.testing.assert_close(saved["state_dict"][name], value)
    assert saved["ema_weights"].keys() == {name for name in average if "frozen" not in name}
    assert equal(weights, saved["ema_weights"])


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("first", [True, False], ids=["earlier callback", "later callback"])
@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize(
    "hook",
    [
        "on_validation_start",
        "on_validation_batch_end",
        "on_validation_end",
        "on_train_epoch_end",
        "on_fit_end",
    ],
)
def test_exception_in_another_callback_restores_the_live_weights(tmp_path, hook, error, first):
    ema, raises = ExponentialMovingAverage(0.9), Raises(hook, error)
    callbacks = [raises, ema] if first else [ema, raises]
    assert_live(*interrupted(tmp_path, *callbacks, num_sanity_val_steps=1))


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_exception_in_a_validation_step_restores_the_live_weights(tmp_path, error):
    class Fails(Line):
        def validation_step(self, batch, batch_idx):
            if self.trainer.current_epoch == 1 and batch_idx == 2:
                raise error

    assert_live(*interrupted(tmp_path, ExponentialMovingAverage(0.9), model=Fails()))


@pytest.mark.parametrize("hook", ["on_validation_start", "on_validation_end"])
def test_exception_amid_copying_restores_the_live_weights(tmp_path, monkeypatch, hook):
    copied, copy_ = [], torch.Tensor.copy_

    def fails_at_the_third(self, *arguments):
        copied.append(self)
        if len(copied) == 3:
            raise RuntimeError("boom")
        return copy_(self, *arguments)

    class Interrupts(pl.Callback):
        def prepare(self, trainer, *_):
            if trainer.current_epoch == 1:
                monkeypatch.setattr(torch.Tensor, "copy_", fails_at_the_third)

    setattr(Interrupts, hook, Interrupts.prepare)
    assert_live(*interrupted(tmp_path, Interrupts(), ExponentialMovingAverage(0.9)))
    assert len(copied) > 3


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize("hook", ["on_fit_start", "on_sanity_check_start", "on_validation_batch_end"])
@pytest.mark.parametrize("first", [True, False], ids=["earlier callback", "later callback"])
@pytest.mark.parametrize("resumed", [False, True], ids=["new", "resumed"])
def test_exception_before_the_first_step_loses_nothing(tmp_path, error, hook, first, resumed):
    path, before, live = None, copy_of(Line()), None
    if resumed:
        _, saved = fit(tmp_path, 1)
        path, before, live = tmp_path / "last.ckpt", saved["state_dict"], saved["ema_weights"]
    ema, raises = ExponentialMovingAverage(0.9), Raises(hook, error, epoch=0)
    callbacks = [raises, ema] if first else [ema, raises]
    model, saved = interrupted(tmp_path, *callbacks, path=path, num_sanity_val_steps=2)
    assert model.after_steps == []
    assert equal(saved["state_dict"], before)
    if resumed:
        assert equal(saved["ema_weights"], live)
    if resumed and (hook, first) != ("on_fit_start", True):  # then training was about to start
        assert equal(copy_of(model), live)


def test_validation_after_an_exception_takes_the_module_as_it_is(tmp_path):
    model, raises = Line(), Raises("on_validation_end", RuntimeError("boom"))
    trainer = trainer_of(tmp_path, ExponentialMovingAverage(0.9), raises, epochs=3)
    with pytest.raises(RuntimeError):
        trainer.fit(model, loader(), loader())
    trainer.callbacks.remove(raises)
    trainer.validate(model, loader(), verbose=False)
    assert equal(model.validated[-1], model.after_steps[-1][1])
    assert equal(copy_of(model), model.after_steps[-1][1])


def test_checkpoint_saved_during_validation_holds_the_average(tmp_path):
    class Saves(pl.Callback):
        def on_validation_batch_end(self, trainer, *_, **__):
            trainer.save_checkpoint(tmp_path / "during.ckpt")

    model = Line()
    trainer_of(tmp_path, ExponentialMovingAverage(0.9), Saves()).fit(model, loader(), loader())
    saved = torch.load(tmp_path / "during.ckpt", weights_only=True)
    for name, value in by_hand(model.after_steps, 0.9)[0].items():
        torch.testing.assert_close(saved["state_dict"][name], value)
    assert equal(model.after_steps[-1][1], saved["ema_weights"])


def test_a_frozen_weight_is_not_copied_by_any_of_its_names():
    model = Line()
    model.tied = nn.Linear(3, 3)
    model.tied.weight = model.frozen.weight  # as the two embeddings of a language model
    assert set(copy_of(model)) - set(averaged(model)) == {
        *("frozen.weight", "frozen.bias", "tied.weight", "net.1.num_batches_tracked")
    }


class Sharded(pl.LightningModule):
    """Weights that two ranks share unevenly, a frozen one, and statistics that are not shared out."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def life_of_an_average(module):
    """What an EMA saves after training, within a validation, and after a resume."""
    trainer = SimpleNamespace(global_step=0, state=SimpleNamespace(fn=TrainerFn.FITTING))
    ema, saved = ExponentialMovingAverage(decay=0.5), []

    def save():
        checkpoint = {"state_dict": gathered(module.state_dict())}
        ema.on_save_checkpoint(trainer, module, checkpoint)
        saved.append({name: {k: v.clone() for k, v in part.items()} for name, part in checkpoint.items()})

    ema.on_fit_start(trainer, module)
    for trainer.global_step in (1, 2, 3):
        for tensor in averaged(module).values():
            tensor.mul_(0.5 + trainer.global_step)
        ema.on_train_batch_end(trainer, module, None, None, 0)
    save()
    ema.on_validation_start(trainer, module)
    gather(module, whole=True)
    save()
    ema.on_validation_end(trainer, module)
    gather(module, whole=False)
    save()
    ema.on_fit_end(trainer, module)
    trainer.ckpt_path = "a checkpoint"
    again, steps = ExponentialMovingAverage(decay=0.5), ema.state_dict()
    again.load_state_dict(steps)
    whole = [saved[0].get("ema_weights")]
    if dist.is_initialized():
        dist.broadcast_object_list(whole)  # every rank reads the file
    ema = again
    if sharded := dist.is_initialized():  # Lightning restores these after on_fit_start
        ema.on_fit_start(trainer, module)
    ema.on_load_checkpoint(trainer, module, {"ema_weights": whole[0]})
    if not sharded:
        ema.on_fit_start(trainer, module)
    save()
    for tensor in averaged(module).values():
        tensor.mul_(2)
    trainer.global_step += 1
    ema.on_train_batch_end(trainer, module, None, None, 0)
    save()
    return saved


def on_a_rank(rank, module):
    shard(module, init_device_mesh("cpu", (2,)))
    return life_of_an_average(module)


def test_sharded_weights_have_the_average_of_whole_ones(tmp_path):
    torch.manual_seed(0)
    module = Sharded()
    first, second = on_ranks(on_a_rank, [module, module], tmp_path / "meeting")
    expected = life_of_an_average(module)
    assert set(expected[0]["ema_weights"]) == {
        *("linear.weight", "linear.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    }
    assert (
        len({str(saved["ema_weights"]) for saved in expected[:4]}) == 1
    )  # whatever the module holds meanwhile
    for found, whole in zip(first, expected, strict=True):
        torch.testing.assert_close(found, whole, atol=0, rtol=0)
    assert all("linear.weight" not in saved["state_dict"] for saved in second)
