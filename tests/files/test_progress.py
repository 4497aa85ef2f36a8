"""Progress bars: on terminals alone; in files, a line now and then."""

import time

import pytest

from pointrend_seg.files import progress
from pointrend_seg.files.progress import progress_bar
from screens import Screen


def test_a_terminal_gets_a_bar(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(progress.sys, "stderr", screen)
    assert list(progress_bar(range(3), unit="image")) == [0, 1, 2]
    assert "\r" in screen.text and "3/3" in screen.text and "image/s" in screen.text
    screen.text = ""
    assert list(progress_bar(range(3), unit="image", shown=False)) == [0, 1, 2]
    assert not screen.text


@pytest.mark.parametrize("is_long", [True, False])
def test_a_file_gets_lines_of_long_jobs(is_long, monkeypatch, capsys):
    if is_long:
        monkeypatch.setattr(progress, "_SECONDS", 0.01)
    for _ in progress_bar(range(3), unit="image"):
        time.sleep(0.03)
    said = capsys.readouterr().err
    assert "\r" not in said and "\x1b" not in said
    assert ("3 of 3 images in 00:00, 00:00 left\n" in said) == is_long
    assert is_long or not said
