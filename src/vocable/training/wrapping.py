"""A model made ready for the processes that train it, its optimizer, and both as checkpoints hold them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_state_dict, set_state_dict

from vocable.errors import InputError
from vocable.training.objective import Apart
from vocable.training.settings import OptimizerSettings, TrainingSettings
from vocable.training.world import World


class Wrapped:
    """A model on its device, shared between processes as the settings say.

    Args:
        model: in float32; it is moved.
        blocks: its parts that FSDP keeps apart, such as the blocks of a transformer.
        settings: of the training.
        world: the processes.
        leaves_out: whether the model leaves out parts of itself, so that some have no gradient.

    Raises:
        InputError: the parts left out can't be shared this way.
    """

    def __init__(
        self, model: nn.Module, blocks: list[nn.Module], settings: TrainingSettings, world: World, leaves_out: bool
    ) -> None:
        self._world, self._whole = world, model.to(world.device)
        self._fsdp = settings.parallel == "fsdp" and world.size > 1
        self.model: nn.Module = self._whole
        if self._fsdp:
            if leaves_out:
                raise InputError("parallel fsdp takes all processes through the same layers: set layer_drop to 0, or take ddp")
            if settings.precision == "float16":
                raise InputError("parallel fsdp and precision float16 don't go together here: take bfloat16, or ddp")
            from torch.distributed.fsdp import fully_shard

            for block in blocks:
                fully_shard(block)
            fully_shard(model)
        if settings.compile:
            for block in blocks:
                block.compile(dynamic=True)  # batches are of all lengths
        if world.size > 1 and not self._fsdp:
            on = [world.device.index] if world.device.type == "cuda" else None
            self.model = nn.parallel.DistributedDataParallel(
                model, device_ids=on, find_unused_parameters=leaves_out, broadcast_buffers=False
            )
        self.optimizer = optimizer_of(model, settings.optimizer, world.device)

    def accumulating(self, more: bool) -> AbstractContextManager[Any]:
        """Keep gradients in this process while more are to come; the last micro-batch's backward pass adds them all up."""
        if self._fsdp:
            self._whole.set_requires_gradient_sync(not more)  # type: ignore[operator]
        elif isinstance(self.model, nn.parallel.DistributedDataParallel) and more:
            return self.model.no_sync()
        return nullcontext()

    def clip(self, norm: float) -> Tensor:
        """Scale gradients down to a norm, those of what learns apart by themselves; return what the model's was."""
        found, *others = (_clipped(part, norm) for part in _parts(self._whole) if part)
        for other in others:  # not finite, it ends a training as the model's own does
            found = torch.where(torch.isfinite(other), found, other)
        return found

    def state(self) -> dict[str, Any]:
        """Return model and optimizer as nested dictionaries; this process's part of them."""
        _begin(self.optimizer)
        model, optimizer = get_state_dict(self._whole, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` returned and a checkpoint filled."""
        set_state_dict(self._whole, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def weights(self) -> dict[str, Tensor]:
        """Return all weights, in the first process's memory; all processes call it together."""
        if self._fsdp:
            return dict(get_model_state_dict(self._whole, options=StateDictOptions(full_state_dict=True, cpu_offload=True)))  # type: ignore[arg-type]
        return {name: tensor.detach().cpu() for name, tensor in self._whole.state_dict().items()} if self._world.is_first else {}


def optimizer_of(model: nn.Module, settings: OptimizerSettings, device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer of a model; fused, which takes a third of the time."""
    own, apart = ([parameter for parameter in part if parameter.requires_grad] for part in _parts(model))
    groups = _groups(own, settings.decayed == "matrices")
    if isinstance(model, Apart):
        groups += [{**group, "rate": model.apart_rate} for group in _groups(apart, True)]
    kind = torch.optim.AdamW if settings.kind == "adamw" else torch.optim.Adam
    return kind(
        groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay,
        fused=device.type in ("cpu", "cuda", "mps"),
    )  # fmt: skip


def _parts(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of a model, and of what learns apart in it."""
    apart = list(model.apart.parameters()) if isinstance(model, Apart) else []
    known = {id(parameter) for parameter in apart}
    return [parameter for parameter in model.parameters() if id(parameter) not in known], apart


def _groups(parameters: list[nn.Parameter], matrices: bool) -> list[dict[str, Any]]:
    """Return what an optimizer takes; with `matrices` alone decaying, biases and norms are a group of their own."""
    if not matrices:
        return [{"params": parameters}]
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1]},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def _clipped(parameters: list[nn.Parameter], norm: float) -> Tensor:
    found = nn.utils.clip_grad_norm_(parameters, norm if norm > 0 else float("inf"))
    return found.full_tensor() if hasattr(found, "full_tensor") else found


def _begin(optimizer: torch.optim.Optimizer) -> None:
    """Give parameters that had no gradient yet the moments that they would begin with, so that checkpoints have all of them."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not (state := optimizer.state[parameter]):
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                for name in ("exp_avg", "exp_avg_sq"):
                    state[name] = torch.zeros_like(parameter, requires_grad=False)
