"""Train a network on features of talking videos.

    python -m jobs.train trainable=expnet features=features out=training/expnet
    python -m jobs.train trainable=posevae features=s3://b/features out=s3://b/posevae workers.max=8 workers.gpu=true
    ray job submit --working-dir . -- python -m jobs.train trainable=expnet features=s3://b/features out=s3://b/expnet

The features are the output of jobs.prepare. Run the same command again after an interruption: it goes on from the last
checkpoint. The weights of the best checkpoint become a pack, curves are in tensorboard/ of the output folder.

Exit codes: 0 trained; 1 broken off, run again; 2 the features, the configuration or the output folder can't be used,
nothing was started.
"""

import sys

from jobs.command import run_command, say
from pipeline.train import TrainConfig


def main(words: list[str]) -> int:
    """Run the training that the command line asks for and return the exit code."""
    return run_command("jobs.train", __doc__, TrainConfig, words, _train, "checkpoints are kept")


def _train(config: TrainConfig) -> bool:
    from pipeline.training import train

    card = train(config, say)
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in card["metrics"].items())
    say(f"{config.pack_path()}: step {card['step']}, {metrics}")
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
