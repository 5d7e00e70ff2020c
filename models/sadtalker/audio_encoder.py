"""The audio encoder of SadTalker's motion networks (supplement, B.2): Wav2Lip's, from a mel window to one vector.

Names are those of the published files. Legend: N windows, C channels, M mel bands, S mel steps in time.
"""

from torch import Tensor, nn

MELS, STEPS = 80, 16  # of a window: 0.2 s
PAPER_CHANNELS = (32, 64, 128, 256, 512)
SMALL_CHANNELS = (8, 16, 32, 64, 128)
TINY_CHANNELS = (4, 8, 16, 24, 32)


class AudioEncoder(nn.Sequential):
    """Thirteen convolutions from a mel window to a vector without negative numbers.

    Args:
        channels: of the five stages; the last is the length of the vector.
    """

    def __init__(self, channels: tuple[int, ...] = PAPER_CHANNELS):
        a, b, c, d, e = channels
        super().__init__(
            ConvLayer(1, a),
            ConvLayer(a, a, residual=True),
            ConvLayer(a, a, residual=True),
            ConvLayer(a, b, stride=(3, 1)),  # M 27, S 16
            ConvLayer(b, b, residual=True),
            ConvLayer(b, b, residual=True),
            ConvLayer(b, c, stride=(3, 3)),  # M 9, S 6
            ConvLayer(c, c, residual=True),
            ConvLayer(c, c, residual=True),
            ConvLayer(c, d, stride=(3, 2)),  # M 3, S 3
            ConvLayer(d, d, residual=True),
            ConvLayer(d, e, padding=0),  # M 1, S 1
            ConvLayer(e, e, kernel=1, padding=0),
        )

    def forward(self, input: Tensor) -> Tensor:
        """Mel windows in -4 .. 4, shape (N, 1, 80, 16), to vectors >= 0, shape (N, C)."""
        return super().forward(input).flatten(1)


class ConvLayer(nn.Module):
    """Convolution, normalisation, the input again if `residual`, and ReLU."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int = 3,
        stride: tuple[int, int] = (1, 1),
        padding: int = 1,
        residual: bool = False,
    ):
        super().__init__()
        convolution = nn.Conv2d(inside, outside, kernel, stride, padding)
        self.conv_block = nn.Sequential(convolution, nn.BatchNorm2d(outside))
        self._residual = residual

    def forward(self, x_NCMS: Tensor) -> Tensor:
        y = self.conv_block(x_NCMS)
        return (y + x_NCMS if self._residual else y).relu()
