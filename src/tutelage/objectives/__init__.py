"""What a student can learn from: pure losses, and the objectives that hold their state."""

from tutelage.objectives.agnostic import ImageFeatures, Patches, info_nce, patch_distance
from tutelage.objectives.logits import Logits, prediction_divergence
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets
from tutelage.objectives.supervised import Supervised

OBJECTIVES: dict[str, type[Objective]] = {
    "supervised": Supervised,
    "logits": Logits,
    "patches": Patches,
    "image": ImageFeatures,
}

__all__ = [
    "OBJECTIVES",
    "ImageFeatures",
    "Logits",
    "Needs",
    "Objective",
    "Patches",
    "StudentOutputs",
    "Supervised",
    "Targets",
    "info_nce",
    "patch_distance",
    "prediction_divergence",
]
