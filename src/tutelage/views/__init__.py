"""Augmentation as data: draw a view's parameters, apply them to a batch."""

from tutelage.data.boxes import pixel_box
from tutelage.views.dense import placed
from tutelage.views.operations import OPERATIONS, apply_operation
from tutelage.views.policy import POLICIES, SCHEME, WHOLE, Augmentation, DensePolicy, DenseViews, ViewPolicy, Views
from tutelage.views.render import mix, mix_targets, render
from tutelage.views.render_dense import render_dense
from tutelage.views.sample import center_views, pairing, sample_views, whole_views

__all__ = [
    "Augmentation",
    "DensePolicy",
    "DenseViews",
    "OPERATIONS",
    "POLICIES",
    "SCHEME",
    "ViewPolicy",
    "Views",
    "WHOLE",
    "apply_operation",
    "center_views",
    "mix",
    "mix_targets",
    "pairing",
    "pixel_box",
    "placed",
    "render",
    "render_dense",
    "sample_views",
    "whole_views",
]
