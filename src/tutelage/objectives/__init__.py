"""What a student can learn from: pure losses, and the objectives that hold their state."""

from tutelage.objectives.adaptive import AdaptiveFeatures, kernel_distance
from tutelage.objectives.agnostic import ImageFeatures, Patches, info_nce, patch_distance
from tutelage.objectives.b_tuning import BTuning, Evidence, log_evidence
from tutelage.objectives.factors import Factors, factor_distance
from tutelage.objectives.features import FeatureObjective
from tutelage.objectives.logits import Logits, prediction_divergence
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets
from tutelage.objectives.regression import FeatureRegression, feature_error
from tutelage.objectives.relations import Relations, relational_distance
from tutelage.objectives.supervised import Supervised

OBJECTIVES: dict[str, type[Objective]] = {
    "supervised": Supervised,
    "logits": Logits,
    "patches": Patches,
    "image": ImageFeatures,
    "aft": AdaptiveFeatures,
    "kd": FeatureRegression,
    "rkd": Relations,
    "ft": Factors,
    "b-tuning": BTuning,
}

__all__ = [
    "OBJECTIVES",
    "AdaptiveFeatures",
    "BTuning",
    "Evidence",
    "Factors",
    "FeatureObjective",
    "FeatureRegression",
    "ImageFeatures",
    "Logits",
    "Needs",
    "Objective",
    "Patches",
    "Relations",
    "StudentOutputs",
    "Supervised",
    "Targets",
    "factor_distance",
    "feature_error",
    "info_nce",
    "kernel_distance",
    "log_evidence",
    "patch_distance",
    "prediction_divergence",
    "relational_distance",
]
