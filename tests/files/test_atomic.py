"""Files that are written whole or not at all."""

import os
import subprocess
import sys

import pytest
import torch

from pointrend_seg.errors import InputError
from pointrend_seg.files.atomic import replaces, write_text


def test_the_new_content_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    write_text(path, "néw")
    assert path.read_text(encoding="utf-8") == "néw"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replaces(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_killed_process_leaves_the_old_file_and_what_it_left_is_overwritten(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(1, path)
    code = (
        "import os, signal, sys\n"
        "from pointrend_seg.files.atomic import replaces\n"
        "with replaces(sys.argv[1]) as part:\n"
        "    part.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    assert torch.load(path) == 1
    assert sorted(os.listdir(tmp_path)) == [".a.part.pth", "a.pth"]
    with replaces(path) as part:
        torch.save(2, part)
    assert torch.load(path) == 2
    assert os.listdir(tmp_path) == ["a.pth"]


def test_nothing_is_written_through_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(target)
    with pytest.raises(InputError, match="link is a link to .*target, and output is not written"):
        write_text(link, "yours")
    (tmp_path / ".b.part.txt").symlink_to(target)
    write_text(tmp_path / "b.txt", "yours")
    assert target.read_text() == "mine"
    assert (tmp_path / "b.txt").read_text() == "yours"


def test_the_file_gets_the_permissions_of_any_new_file(tmp_path):
    write_text(tmp_path / "a", "")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
