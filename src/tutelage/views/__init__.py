"""Augmentation as data: draw a view's parameters, apply them to a batch."""

from tutelage.views.operations import OPERATIONS, apply_operation
from tutelage.views.policy import POLICIES, SCHEME, Augmentation, ViewPolicy, Views
from tutelage.views.render import mix, mix_targets, pixel_box, render
from tutelage.views.sample import center_views, pairing, sample_views

__all__ = [
    "Augmentation",
    "OPERATIONS",
    "POLICIES",
    "SCHEME",
    "ViewPolicy",
    "Views",
    "apply_operation",
    "center_views",
    "mix",
    "mix_targets",
    "pairing",
    "pixel_box",
    "render",
    "sample_views",
]
