"""What goes wrong with files of weights; importable without torch."""

from pathlib import Path


class WeightsError(ValueError):
    """A file is no checkpoint, or one of another network. The message names the file and what is wrong with it."""

    def __init__(self, path: Path, problem: str):
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem

    def __reduce__(self):
        return (type(self), (self.path, self.problem))
