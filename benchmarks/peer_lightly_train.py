"""Driver of `peers.py`: distillation by LightlyTrain, run with the Python of its own environment.

Its method is ``distillation`` (its third version, its default): the student's pooled and dense features are projected
to the teacher's, and compared by cross entropies over a queue of teacher features (pooled) and by position (dense);
every batch is mixed up with one weight, which cannot be turned off. The teacher is ours, by its documented wrapper
protocol. AdamW, float32 on a CPU, PyTorch's loader with ``--workers`` processes, its callbacks and logs as they come.
Augmentation ``plain`` is random resized crop and flip alone; ``full`` is what it recommends (color jitter, gray,
blur) over the same crops. Prints what :class:`peer_clock.Clock` reports.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("LIGHTLY_TRAIN_EVENTS_DISABLED", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lightly_train  # type: ignore[import-not-found]
import timm
import torch
from peer_clock import Clock, arguments
from torch import Tensor, nn

BATCH = 128
SIZE = 64
PLAIN = {"color_jitter": None, "random_gray_scale": None, "gaussian_blur": None}


class Teacher(nn.Module):
    """A timm ViT as LightlyTrain wants a model: dense features, pooled features, their width.

    Args:
        backbone: The ViT.
        clock: Told when a step's forward begins.
    """

    def __init__(self, backbone: Any, clock: Clock) -> None:
        super().__init__()
        self.backbone = backbone
        self._clock = clock

    def forward_features(self, images: Tensor) -> dict[str, Tensor]:
        """Return the patch tokens as a map, and the class token."""
        self._clock.started()
        tokens = self.backbone.forward_features(images)
        patches = tokens[:, self.backbone.num_prefix_tokens :]
        side = round(patches.shape[1] ** 0.5)
        return {
            "features": patches.transpose(1, 2).reshape(len(tokens), -1, side, side),
            "cls_token": tokens[:, 0],
        }

    def forward_pool(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the class token as a map of one position."""
        return {"pooled_features": features["cls_token"][:, :, None, None]}

    def feature_dim(self) -> int:
        """Return the width."""
        return int(self.backbone.num_features)

    def get_model(self) -> nn.Module:
        """Return the ViT."""
        backbone: nn.Module = self.backbone
        return backbone


def main() -> None:
    told = arguments(__doc__)
    clock = Clock(told)
    torch.manual_seed(0)
    teacher = timm.create_model("vit_small_patch16_224", pretrained=False, num_classes=0, img_size=SIZE)
    student = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=0)
    images = sum(1 for _ in told.data.rglob("*.jpg"))
    lightly_train.pretrain(
        out=told.out,
        overwrite=True,
        data=told.data,
        model=student,
        method="distillation",
        method_args={"teacher": Teacher(teacher, clock)},
        batch_size=BATCH,
        epochs=-(-told.steps // (images // BATCH)),
        num_workers=told.workers,
        accelerator="cpu",
        devices=1,
        transform_args={
            "image_size": (SIZE, SIZE),
            "random_resize": {"min_scale": 0.08, "max_scale": 1.0},
            **(PLAIN if told.augment == "plain" else {}),
        },
        trainer_args={"max_steps": told.steps},
    )
    clock.report(BATCH, version=lightly_train.__version__)


if __name__ == "__main__":
    main()
