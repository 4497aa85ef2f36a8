"""Names that come out of files stay inside of the output folder, and go through no link."""

import os

import pytest

from pointrend_seg.errors import InputError, printable
from pointrend_seg.files.names import path_inside


@pytest.mark.parametrize("name", ["a", "inference/a b", "a/..b/c..", "...", "ä\n", "a/./b", ".a"])
def test_names_that_stay_inside(name, tmp_path):
    assert path_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    ["..", "../x", "a/../../x", "a/..", "/etc/x", "", ".", "./", "/", "a\0b", "inference/../.."],
)
def test_names_that_lead_elsewhere(name, tmp_path):
    with pytest.raises(InputError, match="cannot be the name of an output in .*Rename") as caught:
        path_inside(tmp_path, name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("link", ["a", "a/b", "a/b/c.png"])
@pytest.mark.parametrize("to", ["there", "gone"])
def test_links_below_the_folder_are_refused(link, to, tmp_path):
    (tmp_path / "there").mkdir()
    path = tmp_path / "out" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / to)
    with pytest.raises(InputError, match=f"{link} is a link to .*{to}, and output is not written"):
        path_inside(tmp_path / "out", "a/b/c.png")


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk/out").mkdir(parents=True)
    os.symlink(tmp_path / "disk", tmp_path / "link")
    os.symlink(tmp_path / "link/out", tmp_path / "out")
    for folder in ("out", "link/out"):
        assert path_inside(tmp_path / folder, "a/b").parent.parent == tmp_path / folder


def test_what_is_printable():
    assert printable("ä b – 你好 €") == "ä b – 你好 €"
    text = printable("a\x1b[2J\n\r\t\0\x7f\x9b\u202e\u2066\u200f\u2028\udcff")
    assert text.isascii() and text.isprintable()
    assert text == r"a\x1b[2J\n\r\t\x00\x7f\x9b\u202e\u2066\u200f\u2028\udcff"
    assert printable("a\n\x1b", keep="\n") == "a\n\\x1b"
