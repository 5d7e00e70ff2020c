"""What is read off generated lips, and what is heard at the same time (SadTalker, supplement B.3, Eq. 7).

The paper speaks of characters; the networks of the paper that it names for them tell words, and so do these.

Legend: B clips, T frames, E expression, S samples, W words.
"""

import torch
from torch import Tensor, nn

from models.teachers.lip_reader import LipReader
from models.teachers.mouth_pictures import MouthPictures


class LipReading(nn.Module):
    """Two lip readers, of pictures and of sound.

    Args:
        pictures: of the expressions' coefficient space.
        reads: the network for video.
        hears: the network for audio.
    """

    def __init__(self, pictures: MouthPictures, reads: LipReader, hears: LipReader):
        super().__init__()
        self.pictures, self.reads, self.hears = pictures, reads, hears

    def forward(self, expression_BTE: Tensor, samples_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the words that are read off the lips and of those that are heard, shape (B, W) each.

        Args:
            expression_BTE: generated, to which gradients flow; shape (B, T, 64).
            samples_BS: sound of the same frames, 16 kHz, shape (B, 640 T).
        """
        mouths = self.pictures(expression_BTE.flatten(0, 1)).unflatten(0, expression_BTE.shape[:2])
        with torch.no_grad():
            heard_BW = self.hears(samples_BS)
        return self.reads(mouths), heard_BW
