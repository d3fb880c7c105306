"""What a student can learn from: pure losses, and the objectives that hold their state."""

from tutelage.objectives.adaptive import AdaptiveFeatures
from tutelage.objectives.b_tuning import BTuning, Evidence, log_evidence
from tutelage.objectives.contrast import (
    Draw,
    blended_rows,
    draw_negatives,
    info_nce,
    log_normalizer,
    nce_loss,
)
from tutelage.objectives.factors import Factors, factor_distance
from tutelage.objectives.features import FeatureObjective
from tutelage.objectives.image import BankContrast, ImageFeatures
from tutelage.objectives.image_text import (
    AffinityMimicking,
    ImageText,
    PairObjective,
    affinity_mimicking,
    image_text_contrast,
)
from tutelage.objectives.kernels import kernel_distance, product_kernel_distance
from tutelage.objectives.logits import Logits, prediction_divergence
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets
from tutelage.objectives.patches import Patches, patch_distance
from tutelage.objectives.product import AdaptiveProduct, Factor, ProductRegression
from tutelage.objectives.regression import FeatureRegression, feature_error
from tutelage.objectives.relations import Relations, relational_distance
from tutelage.objectives.self_distillation import SelfDistillation, self_distillation
from tutelage.objectives.supervised import Supervised

OBJECTIVES: dict[str, type[Objective]] = {
    "supervised": Supervised,
    "logits": Logits,
    "patches": Patches,
    "image": ImageFeatures,
    "crd": BankContrast,
    "self-distillation": SelfDistillation,
    "image-text": ImageText,
    "affinity": AffinityMimicking,
    "aft": AdaptiveFeatures,
    "aft-product": AdaptiveProduct,
    "kd": FeatureRegression,
    "kd-product": ProductRegression,
    "rkd": Relations,
    "ft": Factors,
    "b-tuning": BTuning,
}

__all__ = [
    "OBJECTIVES",
    "AdaptiveFeatures",
    "AdaptiveProduct",
    "AffinityMimicking",
    "BTuning",
    "BankContrast",
    "Draw",
    "Evidence",
    "Factor",
    "Factors",
    "FeatureObjective",
    "FeatureRegression",
    "ImageFeatures",
    "ImageText",
    "Logits",
    "Needs",
    "Objective",
    "PairObjective",
    "Patches",
    "ProductRegression",
    "Relations",
    "SelfDistillation",
    "StudentOutputs",
    "Supervised",
    "Targets",
    "affinity_mimicking",
    "blended_rows",
    "draw_negatives",
    "factor_distance",
    "feature_error",
    "image_text_contrast",
    "info_nce",
    "kernel_distance",
    "log_evidence",
    "log_normalizer",
    "nce_loss",
    "patch_distance",
    "prediction_divergence",
    "product_kernel_distance",
    "relational_distance",
    "self_distillation",
]
