"""The examples in docstrings run and give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import pointrend_seg

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
# What users call has an example; names of modules and what is in them.
EXPECTED = {
    "checkpoint.names": ["upgrade_names"],
    "report": ["write_report"],
    "drawing.predictions": ["draw_classes", "draw_instances"],
    "drawing.primitives": ["color_classes", "densest_window", "draw_masks", "draw_points", "tile"],
    "drawing.training_input": ["draw_training_input"],
    "data.custom.class_files": ["read_class_file"],
    "data.custom.label_coding": ["LabelCoding"],
    "data.synthetic.scenes": ["generate_scene"],
    "evaluation.boundary": ["boundary_counts", "boundary_region"],
    "evaluation.confusion": ["SemanticConfusion"],
    "evaluation.region_masks": ["encode_region_masks"],
    "structures.outlines": ["outline_polygons"],
    "structures.run_lengths": ["decode_columns", "encode_columns"],
    "prediction.predictor": ["Predictor"],
    "config": ["add_pointrend_config", "adopt_config"],
    "points.boxes": ["to_image"],
    "points.coordinates": ["grid_point_coords"],
    "points.interpolation": ["sample_points", "write_points"],
    "points.sampling": ["importance_points"],
    "points.subdivision": ["subdivide"],
    "points.uncertainty": ["class_uncertainty"],
    "engine.config_loading": ["load_config"],
    "engine.tasks": ["find_task"],
}


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in pkgutil.walk_packages(pointrend_seg.__path__, "pointrend_seg."):
        for test in finder.find(importlib.import_module(module.name)):
            if test.examples:
                yield test


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_example(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = []
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("module", EXPECTED)
def test_what_users_call_has_an_example(module):
    contents = importlib.import_module(f"pointrend_seg.{module}")
    for name in EXPECTED[module]:
        assert ">>> " in (getattr(contents, name).__doc__ or ""), name
