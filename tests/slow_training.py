"""A training as a process of its own, slow enough to be killed in the middle: python -m tests.slow_training ..."""

import sys
import time

from jobs.train import main
from pipeline.sadtalker_training import ExpNetTrainable
from pipeline.trainables import TRAINABLES

SECONDS_PER_STEP = 0.1


class SlowExpNet(ExpNetTrainable):
    """ExpNet that takes its time."""

    def losses(self, turn, networks, batch, generator):
        time.sleep(SECONDS_PER_STEP)
        return super().losses(turn, networks, batch, generator)


if __name__ == "__main__":
    words = [word.replace("trainable=expnet", "trainable=tests.slow_training:SlowExpNet") for word in sys.argv[1:]]
    assert "expnet" in TRAINABLES
    sys.exit(main(words))
