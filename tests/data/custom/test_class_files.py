"""Class files as tools and people write them: read as meant, or refused with the line."""

import json

import pytest

from pointrend_seg.data.custom.class_files import find_class_file, parse_color, read_class_file
from pointrend_seg.errors import InputError

A, B = (128, 64, 128), (70, 130, 180)
# File name, content, and the table: names, values, colours.
READ = [
    ("classes.txt", "road\nsky\n", (("road", "sky"), None, None)),
    ("classes.txt", "road\r\nsky\r\n", (("road", "sky"), None, None)),
    ("classes.txt", "road\rsky", (("road", "sky"), None, None)),
    ("classes.txt", "\n# of streets\nroad\n\n  sky  \n\n", (("road", "sky"), None, None)),
    ("classes.txt", "road # where cars are\nsky\n", (("road", "sky"), None, None)),
    ("classes.txt", "road,\nsky,\n", (("road", "sky"), None, None)),
    ("classes.txt", '"road",\n"sky"\n', (("road", "sky"), None, None)),
    ("classes.txt", "- road\n- sky\n", (("road", "sky"), None, None)),
    ("classes.txt", "car's seat\nroad", (("car's seat", "road"), None, None)),
    ("classes.txt", "wall, flat\nsky", (("wall, flat", "sky"), None, None)),
    ("classes.txt", "type 1\ntype 2", (("type 1", "type 2"), None, None)),
    ("classes.txt", "road\nzone 2", (("road", "zone 2"), None, None)),
    ("classes.txt", '"name"\nroad', (("name", "road"), None, None)),
    ("classes.txt", '"1: road"\n"2: sky"', (("1: road", "2: sky"), None, None)),
    ("classes.txt", "0\n1\n2", (("0", "1", "2"), None, None)),
    ("classes.txt", "7 road\n3 sky", (("sky", "road"), (3, 7), None)),
    ("classes.txt", "1: road\n2: sky", (("road", "sky"), (1, 2), None)),
    ("classes.txt", "road:1\nsky:2", (("road", "sky"), (1, 2), None)),
    ("classes.txt", "1,road\n2,sky", (("road", "sky"), (1, 2), None)),
    ("classes.txt", "1\troad\n2\tsky", (("road", "sky"), (1, 2), None)),
    ("classes.txt", "1;wet road\n2;sky", (("wet road", "sky"), (1, 2), None)),
    ("classes.txt", "1=road\n2=sky", (("road", "sky"), (1, 2), None)),
    ("classes.txt", '1,"road, wet"\n2,sky', (("road, wet", "sky"), (1, 2), None)),
    ("classes.txt", '"1","road"\n"2","sky"', (("road", "sky"), (1, 2), None)),
    ("classes.txt", "1 road #804080\n2 sky #4682b4", (("road", "sky"), (1, 2), (A, B))),
    ("classes.txt", "1 road 128 64 128\n2 sky 70 130 180", (("road", "sky"), (1, 2), (A, B))),
    ("classes.txt", "road 128 64 128\nsky 70 130 180", (("road", "sky"), None, (A, B))),
    ("label_colors.txt", "128 64 128\t\troad\n70 130 180\tsky", (("road", "sky"), None, (A, B))),
    ("classes.txt", "id name\n1 road\n2 sky", (("road", "sky"), (1, 2), None)),
    ("classes.txt", '["road", "sky"]', (("road", "sky"), None, None)),
    ("labelmap.txt", "road:128,64,128::\nsky:70,130,180::", (("road", "sky"), None, (A, B))),
    (
        "labelmap.txt",
        "# label:color_rgb:parts:actions\nroad:128,64,128:lane,edge:\nsky:70,130,180::fly\n",
        (("road", "sky"), None, (A, B)),
    ),
    ("_classes.csv", "Pixel Value, Class\n0, road\n1, sky\n", (("road", "sky"), (0, 1), None)),
    ("_classes.csv", "\ufeffPixel Value, Class\r\n1, road\r\n", (("road",), (1,), None)),
    (
        "class_dict.csv",
        "name,r,g,b\nroad,128,64,128\nsky,70,130,180",
        (("road", "sky"), None, (A, B)),
    ),
    ("info.csv", "Idx,Ratio,Name\n1,0.15,wall\n2,0.1,a;b", (("wall", "a;b"), (1, 2), None)),
    ("classes.csv", "label,name\n4,road\n5,sky", (("road", "sky"), (4, 5), None)),
    ("classes.csv", "class\nroad\nsky", (("road", "sky"), None, None)),
    ("data.yaml", "train: x\nnames: [yes, no]\nnc: 2", (("yes", "no"), None, None)),
    ("data.yaml", "names:\n  1: road\n  2: sky\n", (("road", "sky"), (1, 2), None)),
    ("classes.yaml", "- road\n- sky", (("road", "sky"), None, None)),
    ("classes.yaml", "road: 1\nsky: 2", (("road", "sky"), (1, 2), None)),
    ("classes.json", '{"road": 1, "sky": 2}', (("road", "sky"), (1, 2), None)),
    ("classes.json", '{"1": "road", "2": "sky"}', (("road", "sky"), (1, 2), None)),
    ("classes.json", '{"id2label": {"1": "road"}}', (("road",), (1,), None)),
    ("classes.json", '{"road": "#804080"}', (("road",), None, (A,))),
    ("classes.json", '[{"name": "road", "id": "7"}]', (("road",), (7,), None)),
    ("classes.json", '[{"name": "road", "id": 7.0}]', (("road",), (7,), None)),
    ("classes.json", '[{"name": "road", "value": 7}]', (("road",), (7,), None)),
    (
        "meta.json",
        '{"classes": [{"title": "road", "color": "#804080"}]}',
        (("road",), None, (A,)),
    ),
    (
        "config.json",
        '{"labels": [{"name": "road", "color": [128, 64, 128, 255]}]}',
        (("road",), None, (A,)),
    ),
]
REFUSED = [
    ("classes.txt", "road 1\nsky 2", r"line 1 \('road 1'\) ends with a number.*VALUE NAME"),
    ("classes.txt", "1. road\n2. sky", r"line 1 \('1. road'\) begins with a number"),
    ("classes.txt", "[1] road\n[2] sky", r"line 1 \('\[1\] road'\) is not a class"),
    ("classes.txt", "1\n2\n3", r"line 1 \('1'\) is a number without a name"),
    ("classes.txt", "0 cat\n1\n2 x", r"line 2 \('1'\) is a number without a name"),
    ("classes.txt", "2 wheeler\ncar", r"line 2 \('car'\) has no value, but others have one"),
    ("classes.txt", "name\nroad", r"line 1 \('name'\) looks like a header"),
    ("classes.txt", "cat, dog", r"line 1 .*has several names"),
    ("classes.txt", "road\nsky: blue", r"line 2 \('sky: blue'\) has several fields"),
    ("classes.txt", "names:\n  0: person", r"line 1 \('names:'\) has several fields"),
    ("classes.txt", "-1 road", "has the value -1, but values are 0 or more"),
    ("classes.txt", "#804080 road", "line 1 .*begins with a colour"),
    ("classes.txt", "1 2 3 4 road", "line 1 .*numbers of unknown meaning"),
    ("classes.txt", "128 64 128", "line 1 .*has no name"),
    ("classes.txt", "road #zz", r"line 1 \('road #zz'\): '#zz' is not a colour"),
    ("classes.txt", "a:300,0,0::", r"line 1 .*\[300, 0, 0\] is not a colour"),
    ("classes.txt", "a\nb\na", r"two classes have the name 'a': line 1 .*and line 3"),
    ("classes.txt", "1 a\n1 b", r"two classes have the id 1: line 1 .*and line 2"),
    ("classes.txt", "99999999999 a", "Expected a name"),
    ("classes.txt", "", "has no list of classes"),
    ("classes.txt", "# nothing\n\n", "has no list of classes"),
    ("classes.csv", "id,trainId,name\n7,0,road", "several columns of names or of values"),
    ("classes.csv", "id,name\n1,road, wet", r"line 2 .*has 3 fields, but the header has 2"),
    ("classes.csv", "id,name\nx,road", r"line 2 .*has the id 'x', not a whole number"),
    ("classes.csv", "id,name\n1,", r"line 2 .*has no name"),
    ("classes.csv", "road,wet\nsky,dry", "line 1 .*has several fields"),
    ("data.yaml", "names: [a, b]\nnc: 3", "has 2 names, but nc is 3"),
    ("data.yaml", "names: {0: a, 0: b}", "the key '0' occurs twice"),
    ("data.yaml", "names: [a", "cannot be read: while parsing"),
    ("data.yaml", "a: &x [*x]", "cannot be read|is not a colour"),
    ("classes.json", '{"a": 1, "a": 2}', "the key 'a' occurs twice"),
    ("classes.json", '{"1": "a", "b": 2}', "'1' and 'b' are keys of one dict"),
    ("classes.json", '{"names": ["a"], "classes": ["b"]}', "both 'classes' and 'names'"),
    ("classes.json", '[{"name": "a", "id": 1, "value": 2}]', "Expected a name, or a dict"),
    ("classes.json", '[{"name": "a", "id": true}]', "Expected a name, or a dict"),
    ("classes.json", '[null, "a"]', r"class 0 \(counted from 0\) is None"),
    ("classes.json", "7", "has no list of classes"),
]


def write(folder, name, content):
    (folder / name).write_bytes(content.encode())
    return str(folder / name)


@pytest.mark.parametrize(("name", "content", "table"), READ)
def test_read_as_meant(tmp_path, name, content, table):
    read = read_class_file(write(tmp_path, name, content))
    assert (read.names, read.ids, read.colors) == table


@pytest.mark.parametrize(("name", "content", "text"), REFUSED)
def test_refused_with_the_line(tmp_path, name, content, text):
    with pytest.raises(InputError, match=text) as raised:
        read_class_file(write(tmp_path, name, content))
    assert name in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "classes.txt").write_bytes("Straße\nété\n".encode(encoding))
    assert read_class_file(str(tmp_path / "classes.txt")).names == ("Straße", "été")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_encodings_that_nothing_tells(tmp_path, encoding):
    (tmp_path / "classes.txt").write_bytes("Straße\n".encode(encoding))
    with pytest.raises(InputError, match=r"classes.txt cannot be read: .*(utf-8|NUL)"):
        read_class_file(str(tmp_path / "classes.txt"))


def test_two_class_files_that_differ(tmp_path):
    labels = tmp_path / "labels" / "train"
    labels.mkdir(parents=True)
    write(tmp_path, "classes.txt", "road\nsky")
    write(tmp_path, "_classes.csv", "Pixel Value, Class\n0, road\n1, sky")
    assert find_class_file(str(labels)) == str(tmp_path / "classes.txt")  # they agree
    write(tmp_path, "_classes.csv", "Pixel Value, Class\n1, road\n2, sky")
    with pytest.raises(InputError, match="classes.txt and _classes.csv list different classes"):
        find_class_file(str(labels))
    (tmp_path / "_classes.csv").unlink()
    write(tmp_path, "data.yaml", "host: here")  # of something else
    assert find_class_file(str(labels)) == str(tmp_path / "classes.txt")
    write(labels, "classes.json", json.dumps(["cell"]))
    assert find_class_file(str(labels)) == str(labels / "classes.json")  # the nearest


@pytest.mark.parametrize(
    ("color", "rgb"),
    [
        ("#804080", A),
        ("#804080ff", A),
        ([128, 64, 128], A),
        ([128, 64, 128, 255], A),
        ([128.0, 64.0, 128.0], A),
        ("128, 64, 128", A),
        ("rgb(128, 64, 128)", A),
        ([0.5, 0.25, 1.0], (128, 64, 255)),
        ([0, 1, 0], (0, 1, 0)),
        ([1, 2], None),
        ([256, 0, 0], None),
        ([0.5, 64, 128], None),
        ([True, 0, 0], None),
        ("red", None),
        (None, None),
    ],
)
def test_colours(color, rgb):
    if rgb is not None:
        assert parse_color(color, "here") == rgb
        return
    with pytest.raises(InputError, match="here: .* is not a colour"):
        parse_color(color, "here")
