"""SadTalker's bridge from coefficients to face-vid2vid's keypoints (section 3.3 of the paper, "MappingNet").

Modules carry the names of the published files `mapping_00229-model.pth.tar` (70 channels: expression 64, pose 6) and
`mapping_00109-model.pth.tar` (73: and the scale and shift of the alignment, for pictures that are pasted back).

Legend: B frames, C coefficients, T frames of a window, K keypoints.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from models.facevid2vid.keypoints import BINS, Head
from models.sadtalker.windows import RADIUS

WINDOW = 2 * RADIUS + 1  # frames that a frame's keypoints depend on
COEFFICIENTS, ALIGNED_COEFFICIENTS = 70, 73
DILATION = 3
SLOPE = 0.1


class MappingNet(nn.Module):
    """Windows of coefficients to pose and expression of their middle frames.

    Args:
        coefficients: C, 70 or 73.
        width: channels inside.
        layers: dilated convolutions.
        keypoints: K.
        bins: of every angle.
    """

    def __init__(
        self,
        coefficients: int = COEFFICIENTS,
        width: int = 1024,
        layers: int = 3,
        keypoints: int = 15,
        bins: int = BINS,
    ):
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(coefficients, width, 7))
        self.coefficients, self.layers = coefficients, layers
        for k in range(layers):
            dilated = nn.Conv1d(width, width, 3, dilation=DILATION)
            self.add_module(f"encoder{k}", nn.Sequential(nn.LeakyReLU(SLOPE), dilated))
        self.fc_roll = nn.Linear(width, bins)
        self.fc_pitch = nn.Linear(width, bins)
        self.fc_yaw = nn.Linear(width, bins)
        self.fc_t = nn.Linear(width, 3)
        self.fc_exp = nn.Linear(width, 3 * keypoints)

    def forward(self, windows_BCT: Tensor) -> Head:
        """Heads of the frames in the middle of windows, T = 27."""
        x = self.first(windows_BCT)
        for k in range(self.layers):
            x = self.get_submodule(f"encoder{k}")(x) + x[:, :, DILATION:-DILATION]
        return self._heads(x.mean(2))

    def _heads(self, x_BC: Tensor) -> Head:
        return Head(self.fc_yaw(x_BC), self.fc_pitch(x_BC), self.fc_roll(x_BC), self.fc_t(x_BC), self.fc_exp(x_BC))

    def over_time(self, coefficients_TC: Tensor) -> Head:
        """Heads of all frames but the first and last 13, as `forward` gives them window by window.

        Neighbouring windows share all but one frame, so the convolutions run once over time instead of 27 times, and
        only the mean over the last layer's columns is taken per window.

        Args:
            coefficients_TC: T frames, at least 27.
        Returns:
            of T - 26 frames.
        """
        x = self.first(coefficients_TC.T[None])
        for k in range(self.layers):
            x = self.get_submodule(f"encoder{k}")(x) + x[:, :, DILATION:-DILATION]
        columns = x.shape[2] - len(coefficients_TC) + WINDOW  # that a single window leaves
        return self._heads(F.avg_pool1d(x, columns, stride=1)[0].T)
