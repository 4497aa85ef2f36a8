import pytest

from pointrend_seg.evaluation.tables import score_table

HEADER = ("class", "IoU", "Boundary IoU", "accuracy")


def test_one_class():
    lines = score_table(HEADER, [("cell", [91.267, 3, float("nan")])]).splitlines()
    assert lines == [
        "class    IoU  Boundary IoU  accuracy",
        "cell   91.27          3.00         –",
    ]


@pytest.mark.parametrize("count", [2, 20, 21, 150, 1203])
def test_many_classes_fit_a_terminal(count):
    rows = [(f"class {number}", [number] * 3) for number in range(count)]
    lines = score_table(HEADER, rows).splitlines()
    assert max(map(len, lines)) <= 110
    assert len(lines) == 1 + (count if count <= 20 else -(-count // 2))
    text = "\n".join(lines)
    assert all(f"class {number} " in text for number in range(count))
    assert text.count("Boundary IoU") == (1 if count <= 20 else 2)


def test_names_of_any_width_and_kind():
    names = ["道路", "e\u0301", "дорога", "a" * 80, "line\nbreak"]
    lines = score_table(("class", "IoU"), [(name, [5.0]) for name in names]).splitlines()
    assert lines[1] == "道路" + " " * 26 + "5.00"  # each character is two columns wide
    assert lines[2] == "e\u0301" + " " * 29 + "5.00"
    assert lines[4] == "a" * 27 + "…  5.00" and "line\\nbreak" in lines[5]
