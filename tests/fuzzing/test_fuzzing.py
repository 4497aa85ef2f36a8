"""Spoiled input is refused with a sentence: none of it is called a bug, and nothing hangs."""

import logging
import random
import sys
from itertools import islice

import pytest

from harness import judge
from pointrend_seg.errors import InputError
from trials import KINDS
from world import make_world

FEW, MANY = 12, 500


@pytest.fixture(scope="module")
def world(tmp_path_factory, fresh_loggers):
    logging.disable(logging.WARNING)
    yield make_world(tmp_path_factory.mktemp("fuzzing"))
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", KINDS)
def test_a_few(kind, world):
    figures = judge(kind, islice(KINDS[kind](world, random.Random(1)), FEW))
    assert figures.is_clean, figures.failures()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many(kind, world, capsys):
    figures = judge(kind, islice(KINDS[kind](world, random.Random(2)), MANY))
    with capsys.disabled():
        print(f"\n{figures}", file=sys.stderr)
    assert figures.is_clean, figures.failures()


def test_the_judge_sees_bugs_hangs_and_unclear_sentences():
    """It counts a defect of our code as one, and waits for nothing."""

    def refuse():
        raise InputError("Mend it.")

    def fail():
        raise AttributeError("'NoneType' object has no attribute 'x'")

    def hang():
        while True:
            pass

    def mumble():
        raise InputError("Traceback (most recent call last):")

    trials = [(each.__name__, each) for each in (refuse, fail, hang, mumble, list)]
    figures = judge("made up", trials, seconds=0.2)
    assert (figures.tried, figures.accepted, figures.refused) == (5, 1, 2)
    assert "fail" in figures.bugs[0] and "hang" in figures.hangs[0]
    assert "mumble" in figures.unclear[0]
    assert str(figures).endswith("1 called a bug, 1 hung") and not figures.is_clean
