"""Driver of `peers.py`: distillation by Tutelage, as a method's stage does it.

The loss is the divergence of predictions at temperature 1; AdamW (fused), a moving average of the weights, float32 on
a CPU, images packed once, views made in threads while the model trains (``--workers`` is for others).
Augmentation ``plain`` is random resized crop and flip; ``full`` adds RandAugment, erasing, mixup and CutMix: the
library's default. ``--teacher cached`` reads the teacher's outputs from a store, which is built first if it is not
there. Prints what :class:`peer_clock.Clock` reports.
"""

from __future__ import annotations

from case import AUGMENTATIONS, BATCH, SEED, cached_phase, live_phase, new_loader, new_student, new_teacher, pictures
from peer_clock import Clock, arguments

from tutelage import __version__
from tutelage.progress import Quiet
from tutelage.training.distributed import world
from tutelage.training.loop import train


def main() -> None:
    told = arguments(__doc__)
    samples, policy = pictures(told.data), AUGMENTATIONS[told.augment]
    student, store = new_student(), told.out / "store"
    if told.teacher == "live":
        teacher = new_teacher()
        phase = live_phase(new_loader(samples, policy, store), teacher, told.steps)
    else:
        phase = cached_phase(samples, policy, told.steps, store)
    clock = Clock(told)
    (teacher if told.teacher == "live" else student).register_forward_pre_hook(clock.started)
    with world("cpu") as here:
        train(phase, student, world=here, seed=SEED, progress=Quiet())
    clock.report(BATCH, version=__version__)


if __name__ == "__main__":
    main()
