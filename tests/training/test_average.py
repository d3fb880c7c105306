from __future__ import annotations

import numpy as np
import torch
from tiny_models import tiny_model

from tutelage.training.average import WeightAverage


def test_the_average_warms_up_as_the_formula_says() -> None:
    # Parameters and batch statistics; in float64, one number at a time, with the decay min(0.3, (1 + t) / (10 + t)).
    model = tiny_model()
    average = WeightAverage(model, 0.3)
    expected = {key: value.double().numpy().copy() for key, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for decay in (1 / 10, 2 / 11, 3 / 12, 0.3, 0.3):
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator))
        average.update()
        for key, value in model.state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * value.double().numpy()
    for key in ("encoder.conv.weight", "encoder.norm.running_var", "head.linear.bias"):
        np.testing.assert_allclose(average.state[key].numpy(), expected[key], rtol=1e-5, atol=1e-6)


def test_counters_are_taken_as_they_are() -> None:
    model = tiny_model()
    average = WeightAverage(model, 0.9)
    model.encoder.norm.num_batches_tracked.fill_(17)
    average.update()
    assert average.state["encoder.norm.num_batches_tracked"] == 17


def test_the_model_is_not_moved() -> None:
    model = tiny_model()
    average = WeightAverage(model, 0.9)
    before = model.encoder.conv.weight.detach().clone()
    for value in average.state.values():
        value.zero_()
    average.update()
    assert torch.equal(model.encoder.conv.weight, before)


def test_weights_loaded_into_the_model_are_followed() -> None:
    model = torch.nn.Linear(2, 1)
    average = WeightAverage(model, 0.9)
    model.load_state_dict({"weight": torch.full((1, 2), 7.0), "bias": torch.zeros(1)})
    for _ in range(200):
        average.update()
    assert torch.allclose(average.state["weight"], torch.full((1, 2), 7.0), atol=1e-3)
