"""A model whose weights, gradients and optimizer states are sharded over the ranks (FSDP2).

Rajbhandari et al. 2020 (ZeRO, stage 3); Zhao et al. 2023 (FSDP).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch.distributed as dist
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

# Methods that training calls beside `forward`; each gathers the parameters for itself. One must not call
# another of the same module: torch shards the parameters again at the end of the inner one. What only search
# calls (`step`) runs on gathered parameters.
TRAINED = ("head", "keys_values")


class FullySharded(ModelParallelStrategy):
    """Lightning's strategy for sharded models, with all ranks as one group, and a checkpoint in one file.

    Lightning's own FSDPStrategy is for FSDP1, which runs on GPUs only.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, **options)

    def setup_environment(self) -> None:
        """Shard over all ranks; by default Lightning (2.6) counts the nodes only."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load weights and optimizer states; the CheckpointIO, which Lightning leaves out, reads the rest."""
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)
        super().load_checkpoint(checkpoint_path, weights_only)
        return checkpoint


def shard(module: nn.Module, mesh: Any) -> None:
    """Shard a module's parameters, layer by layer, so that one whole layer at a time is in memory.

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
    """Keep all parameters on every rank (`whole`), or shard them again; a collective.

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


def own_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This rank's parts of tensors, which share their memory; a tensor that isn't sharded is its own part."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, as a checkpoint holds them; of sharded ones on the first rank alone. A collective."""
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, DTensor):
            whole[name] = tensor
            continue
        full = tensor.full_tensor()
        if dist.get_rank() == 0:
            whole[name] = full.cpu()
    return whole


def copy_into(tensor: Tensor, value: Tensor) -> None:
    """Copy a value, whole or sharded as the tensor is, into the tensor."""
    if isinstance(tensor, DTensor) and not isinstance(value, DTensor):
        value = value.to(tensor.device)
        value = distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)
    tensor.copy_(value)
