"""Factor transfer: the student must be able to say what a compressed form of the teachers' features is."""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.batch import Batch
from tutelage.objectives.features import FeatureObjective, check_rows, full_precision, unit_rows, widened
from tutelage.objectives.objective import StudentOutputs, Targets

EPOCHS, PATIENCE = 500, 10
"""Most passes over the features, and passes without a better reconstruction after which an autoencoder is done."""

BATCH, LEARNING_RATE = 1024, 3e-4
"""Of an autoencoder; all four numbers are those of the authors' code, made for tens of thousands of samples."""

STEPS, LEAST_BATCH, PATIENT_STEPS = 10, 32, 500
"""For few samples: steps that a pass is to have, what a batch becomes for that at most, and steps without a better
reconstruction that make an autoencoder done. Else a pass would be one step, and ten of them would change nothing."""

REMEMBERED = 16
"""Encoders that are kept in memory: the same ones serve every weight of the regularizer, on every split."""

HELD_OUT = 10
"""One in so many training samples is kept to tell when an autoencoder is done."""


def factor_distance(student_factors: Tensor, teacher_factors: Tensor) -> Tensor:
    r"""Distance of the directions of two codes.

    .. math:: \frac{1}{B} \sum_i \left\| \frac{s_i}{\|s_i\|_2} - \frac{t_i}{\|t_i\|_2} \right\|_1

    summed over the code, mean over samples; the loss of factor transfer (Kim et al., NeurIPS 2018, equation 3 at
    p = 1). A code of zeros has no direction, and stays zero.

    Args:
        student_factors: [B, d].
        teacher_factors: [B, d].

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes differ.
    """
    check_rows(student_factors, teacher_factors, width=True)
    with full_precision(student_factors):
        difference = unit_rows(widened(student_factors)) - unit_rows(widened(teacher_factors))
        return difference.abs().sum(1).mean()


class Factors(FeatureObjective):
    """Predict the teachers' factors: what autoencoders make of their features (see :func:`factor_distance`).

    Each teacher has an autoencoder of its own, d → d → d/2 → d/2 and back, a ReLU after each layer but the last. It
    is fitted to the training samples alone (the authors' code stops it by the test samples), and then frozen. All
    codes side by side are predicted from the student's features by a translator, dφ → dφ → d/2 → d/2, which learns
    at the student's learning rate.

    Args:
        student_width: dφ.
        widths: Of each teacher's pooled features.
        standardize: As for every :class:`FeatureObjective`.
        seed: Of the autoencoders: their start, their hold-out and the order of samples.
    """

    fits = True

    def __init__(
        self, student_width: int, widths: Mapping[str, int], *, standardize: bool = False, seed: int = 0
    ) -> None:
        super().__init__(student_width, widths, standardize=standardize)
        # By place: names of teachers may have dots, which names of modules may not.
        self.encoders = nn.ModuleList(_perceptron(*_sizes(width)) for width in widths.values()).requires_grad_(False)
        code = sum(_sizes(width)[-1] for width in widths.values())
        self.translator = _perceptron(student_width, student_width, code, code)
        self._seed = seed

    def fit(self, features: dict[str, Tensor], labels: Tensor | None, student: Tensor | None) -> None:
        """Fit the autoencoders."""
        device = next(self.encoders.parameters()).device
        for number, (encoder, rows) in enumerate(zip(self.encoders, features.values(), strict=True)):
            encoder.load_state_dict(_remembered(rows, self._seed + number, device))

    def factors(self, targets: Targets) -> Tensor:
        """Return all teachers' codes side by side, [B, sum of d/2]."""
        parts = torch.split(self.teacher_features(targets), list(self.widths.values()), dim=1)
        return torch.cat([encoder(part).relu() for encoder, part in zip(self.encoders, parts, strict=True)], dim=1)

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``ft``."""
        return {"ft": factor_distance(self.translator(self.student_features(student)), self.factors(targets))}


def _remembered(features: Tensor, seed: int, device: torch.device) -> Mapping[str, Tensor]:
    """Return the weights of :func:`fitted_encoder`, fitted now or before."""
    rows = features.contiguous().numpy().tobytes()
    key = hashlib.blake2b(rows + f"|{tuple(features.shape)}|{seed}|{device}".encode()).hexdigest()
    if key not in _FITTED:
        state = fitted_encoder(features, seed=seed, device=device).state_dict()
        _FITTED[key] = {name: value.cpu() for name, value in state.items()}
        while len(_FITTED) > REMEMBERED:
            _FITTED.popitem(last=False)
    _FITTED.move_to_end(key)
    return _FITTED[key]


_FITTED: OrderedDict[str, dict[str, Tensor]] = OrderedDict()


def fitted_encoder(features: Tensor, *, seed: int, device: torch.device | str = "cpu") -> nn.Sequential:
    """Fit an autoencoder by the mean squared error, and return its encoder (without the ReLU after the code).

    Args:
        features: [N, d]; one in ten is held out, and the weights that reconstruct those best are kept.
        seed: Of all that is drawn; no other generator is touched.
        device: Where it is fitted.
    """
    sizes = _sizes(features.shape[1])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # a GPU has its own generators, which are left alone
        encoder, decoder = _perceptron(*sizes), _perceptron(*sizes[::-1])
    coder = nn.Sequential(encoder, nn.ReLU(), decoder).to(device)
    order = torch.randperm(len(features), generator=generator)
    held, kept = order.tensor_split([max(1, len(order) // HELD_OUT)])
    kept = kept if len(kept) else held
    size = min(BATCH, max(LEAST_BATCH, len(kept) // STEPS))
    patience = max(PATIENCE, math.ceil(PATIENT_STEPS / math.ceil(len(kept) / size)))
    optimizer = torch.optim.Adam(coder.parameters(), lr=LEARNING_RATE)
    best, left, state = float("inf"), patience, copy.deepcopy(encoder.state_dict())
    for _ in range(EPOCHS):
        for rows in torch.split(kept[torch.randperm(len(kept), generator=generator)], size):
            values = features[rows].to(device)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(F.mse_loss(coder(values), values))
            optimizer.step()
        error = _error(coder, features, held, device)
        left -= 1
        if error < best:
            best, left, state = error, patience, copy.deepcopy(encoder.state_dict())
        if not left:
            break
    encoder.load_state_dict(state)
    return encoder


@torch.no_grad()
def _error(coder: nn.Module, features: Tensor, rows: Tensor, device: torch.device | str) -> float:
    parts = [features[some].to(device) for some in torch.split(rows, BATCH)]
    return sum(float(F.mse_loss(coder(part), part, reduction="sum")) for part in parts) / len(rows)


def _sizes(width: int) -> tuple[int, int, int, int]:
    half = max(1, width // 2)
    return width, width, half, half


def _perceptron(*sizes: int) -> nn.Sequential:
    """Return linear layers with a ReLU between them."""
    layers: list[nn.Module] = []
    for one, other in itertools.pairwise(sizes):
        layers += [nn.ReLU(), nn.Linear(one, other)]
    return nn.Sequential(*layers[1:])
