"""What objectives look at before the first step: every sample once, with the student at its start."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from tutelage.data.batch import Batch
from tutelage.models.model import Model
from tutelage.models.outputs import Outputs
from tutelage.objectives import StudentOutputs, Targets
from tutelage.training.phase import Phase
from tutelage.training.precision import precision


def examples(phase: Phase, model: Model, device: torch.device) -> Iterator[tuple[Batch, StudentOutputs, Targets]]:
    """Yield every sample once, in batches, with the student's outputs as it is now and the targets.

    Every process gets all of the samples, so that all of them prepare the same. The student runs only for outputs
    that are looked up.
    """
    loader = phase.loader
    source = loader.ready(loader.view(0, np.arange(len(loader.samples))))
    needs = phase.student_needs()
    try:
        for batch in source:
            moved = batch.to(device)
            with precision(device):
                targets = phase.targets(moved)
            yield moved, _WhenRead(needs, functools.partial(_at_start, phase, model, moved, device)), targets
    finally:
        source.close()


def _at_start(
    phase: Phase, model: Model, batch: Batch, device: torch.device, group: str, needs: frozenset[str]
) -> Outputs:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), precision(device):
            outputs: Outputs = model(batch.inputs[group], needs, size=phase.sizes.get(group))
    finally:
        for module, mode in modes:
            module.training = mode
    return outputs


class _WhenRead(Mapping[str, Outputs]):
    """The student's outputs of each view group, computed when they are looked up."""

    def __init__(
        self, needs: Mapping[str, frozenset[str]], compute: Callable[[str, frozenset[str]], Outputs]
    ) -> None:
        self._needs, self._compute = needs, compute
        self._found: dict[str, Outputs] = {}

    def __getitem__(self, group: str) -> Outputs:
        if group not in self._found:
            self._found[group] = self._compute(group, self._needs[group])
        return self._found[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self._needs)

    def __len__(self) -> int:
        return len(self._needs)
