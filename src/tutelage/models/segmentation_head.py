"""The head that tells the class of every pixel: DeepLabV3 on an encoder's dense map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.models.model import Head


class SegmentationHead(Head):
    """DeepLabV3 on patches, [B, D, h, w] → [B, C, h, w].

    Several atrous convolutions and the mean of the whole map are read side by side (Chen et al., "Rethinking Atrous
    Convolution for Semantic Image Segmentation", 2017); the decoder is that of segmentation-models-pytorch.

    The mean of a map is one value a channel and image, which BatchNorm cannot normalize when a training batch is a
    single image: it then uses the statistics of the batches before, and leaves them as they are.

    Args:
        width: Channels of the patches.
        classes: How many are told apart.
        channels: Width of the decoder.
        rates: Of the three atrous convolutions, in patches; made for a stride of 8.
        dropout: Of the decoder's joined channels, in training.

    Attributes:
        channels: As given.
        rates: As given.
    """

    reads = "patches"

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        channels: int = 256,
        rates: Sequence[int] = (12, 24, 36),
        dropout: float = 0.5,
    ) -> None:
        # The package takes seconds to import, and most models have no such head.
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPPPooling, DeepLabV3Decoder

        super().__init__()
        self.channels, self.rates = channels, tuple(rates)
        self.decoder = DeepLabV3Decoder(width, channels, tuple(rates), aspp_separable=False, aspp_dropout=dropout)
        pooling = self.decoder.aspp.convs[-1]
        assert isinstance(pooling, ASPPPooling)
        pooling[2] = _PooledNorm(channels)
        self.classifier = nn.Conv2d(channels, classes, 1)
        # Not of zeros, as a linear head's: until those have grown, nothing below them learns, which takes half of a
        # short training.
        assert self.classifier.bias is not None
        nn.init.zeros_(self.classifier.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Return logits [B, C, h, w], one vector a patch."""
        logits: Tensor = self.classifier(self.decoder([patches]))
        return logits


class _PooledNorm(nn.BatchNorm2d):
    """BatchNorm on pooled maps [B, C, 1, 1], of which a batch may hold only one."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or len(input) > 1:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
