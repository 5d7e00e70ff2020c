"""Numbers and splits of speakers. Run: pytest tests/pipeline/test_speakers.py"""

from pipeline.speakers import NO_STYLE, Speaker, SplitShares, dumps, enrol, loads

MINUTES = {f"speaker {number}": 1.0 + number / 10 for number in range(20)}


def test_splits_hold_their_shares_in_whole_speakers():
    speakers = enrol({}, MINUTES, {}, SplitShares(validation=0.2, test=0.1))
    time = {split: sum(MINUTES[n] for n, s in speakers.items() if s.split == split) for split in ("validation", "test")}
    total = sum(MINUTES.values())
    assert abs(time["validation"] / total - 0.2) < 0.06 and abs(time["test"] / total - 0.1) < 0.06
    assert sorted(s.identity for s in speakers.values()) == list(range(20))
    styles = sorted(s.style for s in speakers.values() if s.split == "train")
    assert styles == list(range(len(styles)))
    assert all(s.style == NO_STYLE for s in speakers.values() if s.split != "train")
    assert enrol({}, dict(reversed(MINUTES.items())), {}, SplitShares(validation=0.2, test=0.1)) == speakers


def test_nobody_moves_when_speakers_come_or_leave():
    few = enrol({}, {name: MINUTES[name] for name in list(MINUTES)[:7]}, {}, SplitShares())
    more = enrol(few, MINUTES, {}, SplitShares(validation=0.5))
    assert {name: more[name] for name in few} == few
    fewer = enrol(more, {"speaker 3": 9.0}, {}, SplitShares())
    assert fewer == more


def test_wishes_come_first_and_somebody_is_held_out():
    asked = enrol({}, {"a": 1, "b": 9}, {"b": "test"}, SplitShares(validation=0))
    assert asked["b"].split == "test" and asked["a"].split == "train"
    two = enrol({}, {"a": 1, "b": 9}, {}, SplitShares(validation=0.01))
    assert two["a"].split == "validation" and two["b"].split == "train"
    assert enrol({}, {"alone": 1}, {}, SplitShares())["alone"] == Speaker(0, 0, "train")


def test_speakers_are_stored_whole():
    speakers = enrol({}, MINUTES, {}, SplitShares())
    assert loads(dumps(speakers)) == speakers
