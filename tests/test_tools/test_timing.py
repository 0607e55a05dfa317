"""Paired timing, on a clock that the test winds."""

import pytest
from speed import section
from speed.section import Speedup, Timing, paired, speedup


class Clock:
    """Stands still unless a contestant works."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def contestant(self, name, *seconds):
        """Takes these times in turn, then the last one."""
        left = list(seconds)

        def work():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return work


def test_contestants_take_turns_and_warming_up_does_not_count():
    clock = Clock()
    a = clock.contestant('a', 100.0, 1.0, 2.0, 3.0)
    b = clock.contestant('b', 50.0, 4.0, 4.0, 12.0)
    times = paired(dict(a=a, b=b), rounds=3, clock=clock)
    assert clock.calls == ['a', 'b'] * 4
    assert times['a'].seconds == (1.0, 2.0, 3.0)
    assert times['b'].seconds == (4.0, 4.0, 12.0)


def test_the_device_is_waited_for_inside_the_measured_time():
    clock = Clock()
    pending = [0.0]

    def launch():
        pending[0] = 5.0

    def wait():
        clock.now += pending[0]
        pending[0] = 0.0

    times = paired(dict(a=launch), rounds=2, clock=clock, wait=wait)
    assert times['a'].seconds == (5.0, 5.0)


def test_short_work_goes_on_until_enough_time_has_passed(monkeypatch):
    clock = Clock()
    short = dict(a=clock.contestant('a', 1.0))
    assert len(paired(short, 2, at_least=7.5, clock=clock)['a'].seconds) == 8
    monkeypatch.setattr(section, 'MOST', 5)
    assert len(paired(short, 2, at_least=99.0, clock=clock)['a'].seconds) == 5
    assert len(paired(short, 6, at_least=2.0, clock=clock)['a'].seconds) == 6


def test_spread_is_told_as_quartiles():
    spread = Timing((1.0, 2.0, 3.0, 4.0, 100.0))
    assert spread.median == 3.0
    assert spread.quartiles == [2.0, 4.0]
    assert Timing((7.0,)).quartiles == [7.0, 7.0]


def test_a_slow_moment_of_the_machine_leaves_the_paired_ratio_alone():
    """In the third round everything takes ten times as long."""
    slow = Timing((2.0, 2.0, 20.0, 2.0, 2.0))
    fast = Timing((1.0, 1.0, 10.0, 1.0, 1.0))
    assert speedup(slow, fast) == Speedup(2.0, 2.0)
    drifting = Timing((2.0, 4.0, 6.0, 8.0, 10.0))
    assert speedup(drifting, Timing((1.0, 2.0, 3.0, 4.0, 50.0))) == Speedup(2.0, 2.0)


def test_ratio_of_medians_and_median_of_ratios_differ():
    ratio = speedup(Timing((1.0, 2.0, 9.0)), Timing((1.0, 4.0, 3.0)))
    assert ratio.of_medians == 2 / 3
    assert ratio.of_pairs == 1.0


def test_what_cannot_be_compared_is_an_error():
    with pytest.raises(ValueError, match='shorter'):
        speedup(Timing((1.0, 2.0)), Timing((1.0,)))
