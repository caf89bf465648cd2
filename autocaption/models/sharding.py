"""A model whose weights, gradients and optimizer states are shared out to the ranks (FSDP2).

Rajbhandari et al. 2020 (ZeRO, stage 3); Zhao et al. 2023 (FSDP).
"""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

# Methods that training calls beside `forward`; each gathers the parameters for itself. One must not call
# another of the same module: torch shares the parameters out at the end of the inner one. What only search
# calls (`step`) runs on gathered parameters.
TRAINED = ("head", "keys_values")


class FullySharded(ModelParallelStrategy):
    """Lightning's strategy for sharded models, with all ranks as one group, and a checkpoint in one file.

    Lightning's own FSDPStrategy is for FSDP1, which runs on GPUs only.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, **options)

    def setup_environment(self) -> None:
        """Share out to all ranks; by default Lightning (2.6) counts the nodes only."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def shard(module: nn.Module, mesh: Any) -> None:
    """Share a module's parameters out, layer by layer, so that one whole layer at a time is in memory.

    Layers are the members of its ModuleLists.
    """
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP takes no channels_last
    layers = [layer for every in module.modules() if isinstance(every, nn.ModuleList) for layer in every]
    for part in [*reversed(layers), module]:  # inner ones first
        fully_shard(part, mesh=mesh)
        for name in TRAINED:
            if hasattr(part, name):
                register_fsdp_forward_method(part, name)


def is_sharded(module: nn.Module) -> bool:
    """Whether a part of the module is."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


def gather(module: nn.Module, whole: bool) -> None:
    """Keep all parameters on every rank (`whole`), or share them out again; a collective.

    A search takes as many steps as its captions are long, so ranks can't gather in each of them together.
    """
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(not whole, recurse=False)
        part.unshard() if whole else part.reshard()


def load_whole(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of a whole model into one that may be sharded; every rank has them."""
    if is_sharded(module):
        set_model_state_dict(module, dict(weights), options=StateDictOptions(full_state_dict=True))
    else:
        module.load_state_dict(weights)
