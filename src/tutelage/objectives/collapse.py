"""Whether outputs that nothing holds but other outputs still say something: what is watched, and when they do not."""

from __future__ import annotations

import math

from torch import Tensor

UNIFORM = 0.99
"""Share of the largest entropy above which a teacher says nothing."""

SAME_IMAGES = 0.01
"""Spread below which a student says the same of every image, whatever its teacher still says."""

CLOSE_IMAGES, SAME_VIEWS = 0.05, 0.01
"""Spread, and share of log K as divergence, below both of which it does too: nothing drives images apart."""


def relative_entropy(logits: Tensor, center: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Mean entropy of softmax((t - c) / T) as a share of log K, the largest that there is.

    Args:
        logits: t, [..., K]; K is two or more.
        center: c, [K].
        temperature: T.

    Returns:
        A scalar in 0..1: 0 where all is said of one prototype, 1 where nothing is said of any.
    """
    shares = ((logits - center) / temperature).log_softmax(-1)
    return -(shares.exp() * shares).sum(-1).mean() / math.log(logits.shape[-1])


def spread(embeddings: Tensor) -> Tensor:
    r"""How far images lie apart on the unit sphere: the root of the total variance over the batch.

    .. math:: \sqrt{\frac{1}{V} \sum_v \Big(1 - \Big\|\frac{1}{B} \sum_i z_{vi}\Big\|^2\Big)}

    Args:
        embeddings: z, of unit length, [V, B, D].

    Returns:
        A scalar in 0..1: 0 where all images have the same embedding, 1 where their mean is zero.
    """
    return embeddings.var(dim=1, correction=0).sum(-1).mean().sqrt()


def collapse(*, teacher_entropy: float, divergence: float, spread: float, prototypes: int) -> str | None:
    """Return how outputs have collapsed, in words; ``None`` if they have not.

    Args:
        teacher_entropy: As :class:`SelfDistillation` watches it, and so the next two.
        divergence: Student from teacher, in nats.
        spread: Of the student's embeddings.
        prototypes: K.
    """
    if teacher_entropy > UNIFORM:
        return (
            f"the teacher prefers no prototype to another (its entropy is {teacher_entropy:.1%} of the largest that "
            "there is)"
        )
    settled = divergence < SAME_VIEWS * math.log(prototypes)
    if spread < SAME_IMAGES or (settled and spread < CLOSE_IMAGES):
        return (
            f"the student says the same of every image (its embeddings spread {spread:.3f} of 1, and it is "
            f"{divergence:.3f} nats from its teacher)"
        )
    return None
