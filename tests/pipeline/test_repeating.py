"""Something done now and then while a block runs. Run: pytest tests/pipeline/test_repeating.py"""

import threading

import pytest

from pipeline.repeating import repeating

SOON_S, NEVER_S, PATIENCE_S = 0.001, 3600.0, 30.0


class Turns:
    """Counts its calls, and fails at the first one if it shall."""

    def __init__(self, fails: bool = False):
        self.count, self.fails, self.thrice = 0, fails, threading.Event()

    def __call__(self) -> None:
        self.count += 1
        if self.count == 3:
            self.thrice.set()
        if self.count == 1 and self.fails:
            raise OSError("the disk is on holiday")


def is_repeating() -> bool:
    return any(thread.name == "repeating" for thread in threading.enumerate())


def test_turns_are_made_while_the_block_runs_and_not_afterwards():
    turns = Turns()
    with repeating(SOON_S, turns):
        assert turns.thrice.wait(PATIENCE_S)
    assert not is_repeating()


def test_a_short_block_waits_for_no_turn():
    turns = Turns()
    with repeating(NEVER_S, turns):
        pass
    assert turns.count == 0


def test_a_turn_that_fails_is_told_and_the_next_one_is_made(caplog):
    turns = Turns(fails=True)
    with repeating(SOON_S, turns):
        assert turns.thrice.wait(PATIENCE_S)
    assert [record.message for record in caplog.records if "holiday" in record.message]


def test_an_error_of_the_block_ends_the_turns():
    turns = Turns()
    with pytest.raises(KeyError), repeating(SOON_S, turns):
        raise KeyError
    assert not is_repeating()
