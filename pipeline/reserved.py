"""An output folder is one job's: what was asked stands in it, and nothing made with other settings comes beside it."""

import json
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf
from pydantic import BaseModel

from pipeline import storage
from pipeline.config import dump_config
from pipeline.errors import InputError, SetupError, TransientError

FILE = "config.yaml"


def reserve(out: str, config: BaseModel, alike: Sequence[str], holds: str, revision: str = "") -> None:
    """Note in a folder what is asked.

    Args:
        out: URI of the folder.
        alike: settings that everything in the folder shares.
        holds: what it is a folder of, for the error.
        revision: of the program, where what it makes depends on that.
    Raises:
        SetupError: it is reserved for others, or can't be written.
    """
    place = storage.join(out, FILE)
    try:
        if storage.exists(place):
            before: Any = OmegaConf.to_container(OmegaConf.create(storage.read_bytes(place).decode()))
            asked = config.model_dump(mode="json", include=set(alike))
            other = [name for name in alike if before.get(name) != asked[name]]
            if before.get("revision", "") != revision:
                other.append("the version of the program")
            if other:
                what = ", ".join(other)
                raise SetupError([f"out={out} holds {holds} with another setting of {what}: use another folder"])
        noted = dump_config(config) + (f"revision: {json.dumps(revision)}\n" if revision else "")
        storage.write_atomic(place, noted.encode())
    except (InputError, TransientError) as error:
        raise SetupError([f"out={out}: {error}"]) from error
