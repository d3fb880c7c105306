"""Driver of `peers.py`: distillation by torchdistill, run with the Python of its own environment.

Its distillation box, set up as by its configuration files: knowledge distillation on logits (its ``KDLoss``) at
temperature 1 and without a label term, so the same loss as ours; AdamW as torch makes it, float32, PyTorch's loader
with ``--workers`` processes. Augmentation ``plain`` is torchvision's random resized crop and flip; ``full`` adds its
RandAugment, random erasing, and mixup or CutMix with the same parameters as ours. Prints what
:class:`peer_clock.Clock` reports.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torchdistill  # type: ignore[import-not-found]
from peer_clock import Clock, arguments
from torch.utils.data import RandomSampler, default_collate
from torchdistill.core.distillation import get_distillation_box  # type: ignore[import-not-found]
from torchdistill.datasets.registry import register_collate_func  # type: ignore[import-not-found]
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

BATCH = 128
SIZE = 64
CLASSES = 10

_mixes = v2.RandomChoice([v2.MixUp(alpha=0.2, num_classes=CLASSES), v2.CutMix(alpha=1.0, num_classes=CLASSES)])


def mixed(samples: list[Any]) -> Any:
    """Batch samples and mix them."""
    images, labels, extra = default_collate(samples)
    images, labels = _mixes(images, labels)
    return images, labels, extra


def transform(augment: str) -> v2.Compose:
    """Return the training transform."""
    full = augment == "full"
    return v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=(0.08, 1.0)),
            v2.RandomHorizontalFlip(),
            *([v2.RandAugment(num_ops=2, magnitude=9)] if full else []),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
            *([v2.RandomErasing(p=0.25)] if full else []),
        ]
    )


def main() -> None:
    register_collate_func(mixed)
    told = arguments(__doc__)
    clock = Clock(told)
    torch.manual_seed(0)
    teacher = timm.create_model("vit_small_patch16_224", pretrained=False, num_classes=CLASSES, img_size=SIZE).eval()
    student = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=CLASSES)
    teacher.register_forward_pre_hook(clock.started)
    loss = {
        "key": "KDLoss",
        "kwargs": {
            "student_module_path": ".",
            "student_module_io": "output",
            "teacher_module_path": ".",
            "teacher_module_io": "output",
            "temperature": 1.0,
            "alpha": 0.0,
        },
    }
    config = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "collate_fn": "mixed" if told.augment == "full" else None,
            "kwargs": {"batch_size": BATCH, "num_workers": told.workers, "drop_last": True},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "AdamW", "kwargs": {"lr": 1e-3, "weight_decay": 0.05}, "max_grad_norm": 1.0},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}}},
    }
    data = {"train": ImageFolder(str(told.data), transform(told.augment))}
    box = get_distillation_box(teacher, student, data, config, torch.device("cpu"), None, False, 1)
    done = epoch = 0
    while done < told.steps:
        box.pre_epoch_process(epoch=epoch)
        for images, labels, extra in box.train_data_loader:
            box.post_forward_process(loss=box.forward_process(images, labels, extra))
            done += 1
            if done == told.steps:
                break
        epoch += 1
    clock.report(BATCH, version=torchdistill.__version__)


if __name__ == "__main__":
    main()
