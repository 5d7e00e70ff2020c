"""Doing something now and then while something else goes on, as progress lines want it."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def repeating(every_s: float, do: Callable[[], None]) -> Iterator[None]:
    """Do something every `every_s` seconds while the block runs, in a thread of its own.

    The first time is after `every_s` seconds. The end of the block waits for a turn that has begun, so nothing is done
    after it. A turn that fails is logged and the next one is made all the same: a progress line is no reason to end a
    night's work, nor is one that couldn't be read a reason to tell no more of them.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s):
            try:
                do()
            except Exception as error:
                logger.warning("%s: %s", getattr(do, "__qualname__", do), error)

    thread = threading.Thread(target=repeat, name="repeating", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
