"""Section 5.2 as a whole network: the layers of a trained one kept as they are, and a new softmax on top."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from .datasets import Dataset
from .network import ConvNet
from .transfer import choose_decay, fit_softmax, per_class_accuracy

BATCH = 32


def retrain(net: ConvNet, dataset: Dataset, progress: bool = False) -> ConvNet:
    """Keep a network's convolutions and train a new softmax on what the last of them hands on (section 5.2).

    Features are divided by one number, their root mean square length over the data set, which then becomes part
    of the weights: the network stays one of convolutions and a softmax. A fifth of the pictures chooses the decay.

    Args:
        net: The network; its classifier, where it has one, is left out.
        dataset: Pictures with one label each.
        progress: Show a bar.

    Returns:
        A network for the data set's classes, in evaluation mode, with the same convolutions and preparation.

    Example:
        >>> from zfnet_lib import MINI, open_dataset
        >>> few = open_dataset("shapes", "val", n=32)
        >>> whole = retrain(ConvNet(MINI), few)
        >>> [layer.name for layer in whole.layers_upto()][-1], whole.spec.classes
        ('conv5', 16)
    """
    convs = net.features().eval()
    x, classes = handed_on(convs, dataset, progress), len(dataset.classes)
    length = x.square().sum(1).mean().sqrt()
    x, labels = x / length, np.asarray(dataset.labels)
    targets = F.one_hot(torch.from_numpy(labels), classes).float()

    def score(logits: Tensor, judged: NDArray[np.int64]) -> float:
        return per_class_accuracy(labels[judged], logits.argmax(1).numpy())

    weight, bias = fit_softmax(x, targets, choose_decay(x, targets, score))
    spec = replace(convs.spec, classes=classes, name=f"{convs.spec.name}-{dataset.name}")
    whole = ConvNet(spec, convs.preparation)
    whole.load_state_dict(convs.state_dict() | {"fc8.weight": weight / length, "fc8.bias": bias})
    return whole.eval()


@torch.no_grad()
def handed_on(convs: ConvNet, dataset: Dataset, progress: bool = False) -> Tensor:
    """Return what the last convolutional layer hands on for every picture of a data set: float32 [n, d]."""
    starts = tqdm(range(0, len(dataset), BATCH), dataset.name, unit="batch", disable=not progress)
    parts = []
    for start in starts:
        pictures = [dataset[i].picture for i in range(start, min(start + BATCH, len(dataset)))]
        parts.append(convs.convolved(convs.prepare(pictures)).flatten(1).cpu())
    return torch.cat(parts)
