"""What a student can learn from: pure losses, and the objectives that hold their state."""

from tutelage.objectives.logits import Logits, prediction_divergence
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets
from tutelage.objectives.supervised import Supervised

OBJECTIVES: dict[str, type[Objective]] = {"supervised": Supervised, "logits": Logits}

__all__ = [
    "OBJECTIVES",
    "Logits",
    "Needs",
    "Objective",
    "StudentOutputs",
    "Supervised",
    "Targets",
    "prediction_divergence",
]
