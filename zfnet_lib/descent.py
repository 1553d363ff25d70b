"""Stochastic gradient descent as in section 3: one update at a time, its batch worked through in parts."""

from __future__ import annotations

import copy
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from .batches import Batch
from .files import ZfnetError
from .network import ConvNet
from .recipes import Recipe

LEAST_PART = 32
"""Pictures below which a part of a batch costs more in weight gradients than it saves."""


class TrainingError(ZfnetError):
    """A training that cannot go on."""


def fitting_parts(batch: int, device: torch.device) -> int:
    """Return into how many parts a batch is split here: one for each core, and one on a GPU or per process."""
    if device.type != "cpu" or distributed.is_initialized():
        return 1
    return max(1, min(torch.get_num_threads(), batch // LEAST_PART))


@dataclass(frozen=True)
class _Share:
    """The parameters that one thread updates, by name, with their optimiser."""

    parameters: dict[str, nn.Parameter]
    optimiser: torch.optim.SGD


class Descent:
    """Momentum, weight decay, dropout and filter renormalisation around the float32 weights of a network.

    Maps and gradients have the recipe's precision: a copy of the network computes in it, and gets the weights anew
    after every update. Every part of a batch has its own gradients, which are added in the order of the parts, so
    that the result does not depend on which thread was faster.

    Args:
        net: The network; its weights change in place.
        recipe: Rate, momentum, decay, clipping, precision.
        parts: Into how many parts a batch is split.
        pool: Threads that work on them.
        seed: Of dropout.
        compiled: Run the convolutional layers through `torch.compile`; sums are rounded otherwise then.
    """

    def __init__(
        self, net: ConvNet, recipe: Recipe, parts: int, pool: Executor, seed: int = 0, compiled: bool = False
    ):
        self.net, self.recipe, self.pool, self.seed = net, recipe, pool, seed
        net.to(memory_format=torch.channels_last)
        self.dtype = getattr(torch, recipe.precision)
        self.low = net if self.dtype == torch.float32 else copy.deepcopy(net).to(self.dtype)
        self.world = distributed.get_world_size() if distributed.is_initialized() else 1
        self.twins = [_twin(self.low).train() for _ in range(parts)]
        for twin in self.twins if compiled else ():
            twin.convolved = torch.compile(twin.convolved, dynamic=False)
        self.models = [DistributedDataParallel(t) for t in self.twins] if self.world > 1 else self.twins
        self.shares = [self._share(names) for names in _shared_out(dict(net.named_parameters()), parts)]

    def update(self, batch: Batch, number: int, rate: float) -> float:
        """Make one update from this process's part of a batch, and return the loss over the whole batch.

        Args:
            batch: Pictures and labels.
            number: Of the update, the first is 1; what dropout drops depends on it.
            rate: The learning rate.

        Raises:
            TrainingError: The loss is not a number; the weights are as before.
        """
        parts = zip(self.models, batch.split(len(self.models)), strict=True)
        losses = self.pool.map(lambda part: self._differentiate(*part, len(batch), number), parts)
        loss = self._mean(sum(losses))
        if not np.isfinite(loss):
            raise TrainingError(f"the loss became {loss} at update {number} with learning rate {rate:g}")
        list(self.pool.map(lambda share: self._descend(share, rate), self.shares))
        return loss

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and momenta as a checkpoint keeps them."""
        tensors = {name: p.detach() for name, p in self.net.named_parameters()}
        for share in self.shares:
            for name, parameter in share.parameters.items():
                state = share.optimiser.state[parameter]
                if state:
                    tensors[f"{name}.momentum"] = state["momentum_buffer"]
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what `tensors` returned."""
        for share in self.shares:
            for name, parameter in share.parameters.items():
                parameter.copy_(tensors[name])
                if f"{name}.momentum" in tensors:
                    buffer = torch.empty_like(parameter).copy_(tensors[f"{name}.momentum"])
                    share.optimiser.state[parameter]["momentum_buffer"] = buffer
            self._refresh(share.parameters)

    def _share(self, parameters: dict[str, nn.Parameter]) -> _Share:
        recipe = self.recipe
        groups = [
            {"params": [p for name, p in parameters.items() if name.endswith(kind)], "weight_decay": decay}
            for kind, decay in (("weight", recipe.decay), ("bias", 0.0))
        ]
        groups = [group for group in groups if group["params"]]
        fused = self.net.device.type != "mps"  # which older versions of torch lack there
        return _Share(parameters, torch.optim.SGD(groups, recipe.rate, recipe.momentum, fused=fused))

    def _differentiate(self, model: nn.Module, part: Batch, pictures: int, number: int) -> float:
        """Leave the gradients of one part's share of the mean loss in its model; return that share."""
        device = self.net.device
        x = part.prepared(self.net.preparation, device, self.dtype)
        seed = np.random.SeedSequence([self.seed, number, part.first]).generate_state(1, np.uint64)
        generator = torch.Generator(device).manual_seed(int(seed[0] >> 1))
        logits = model(x, generator).float()
        loss = F.cross_entropy(logits, part.labels.to(device), reduction="sum") / pictures
        model.zero_grad(set_to_none=True)
        loss.backward()
        return loss.item()

    def _mean(self, loss: float) -> float:
        """Return the mean over all processes; their gradients were averaged already."""
        if self.world == 1:
            return loss
        total = torch.tensor(loss, device=self.net.device)
        distributed.all_reduce(total)
        return total.item() / self.world

    @torch.no_grad()
    def _descend(self, share: _Share, rate: float) -> None:
        """Update one share of the parameters, renormalise its filters, and refresh the computing copy."""
        for name, parameter in share.parameters.items():
            first, *others = (twin.get_parameter(name).grad for twin in self.twins)
            total = first.float()
            for other in others:
                total += other
            parameter.grad = total
        for group in share.optimiser.param_groups:
            group["lr"] = rate
        share.optimiser.step()
        clipped = self.recipe.clipped(self.net.spec)
        self.net.renormalise(tuple(name for name in clipped if f"{name}.weight" in share.parameters))
        self._refresh(share.parameters)

    def _refresh(self, parameters: dict[str, nn.Parameter]) -> None:
        for name, parameter in parameters.items():
            self.low.get_parameter(name).copy_(parameter)


def _twin(net: ConvNet) -> ConvNet:
    """Return a network with the same weights in the same memory, and gradients of its own."""
    twin = copy.deepcopy(net)
    for own, shared in zip(twin.parameters(), net.parameters(), strict=True):
        own.data = shared.data
    return twin


def _shared_out(parameters: dict[str, nn.Parameter], n: int) -> list[dict[str, nn.Parameter]]:
    """Divide the parameters into at most n groups of about equal size."""
    groups: list[dict[str, nn.Parameter]] = [{} for _ in range(n)]
    for name, parameter in sorted(parameters.items(), key=lambda item: -item[1].numel()):
        min(groups, key=lambda g: sum(p.numel() for p in g.values()))[name] = parameter
    return [group for group in groups if group]
