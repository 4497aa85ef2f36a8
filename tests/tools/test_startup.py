"""What every tool does first: see tools/startup.py."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
# Runs in the interpreter that makes the environment, and imports nothing that takes time.
WITHOUT_STARTUP = {"setup_environment"}
NOT_RUN = {"startup", "demo_steps"}
NAMES = sorted(path.stem for path in TOOLS.glob("*.py") if path.stem not in NOT_RUN)
# These import what takes time after they have read their options, or never.
QUICK = {
    "build_detectron2_wheel",
    "demo",
    "demo_instance",
    "demo_micrograph",
    "demo_panoptic",
    "demo_point_supervision",
    "make_wheelhouse",
}


def interrupt(name, library, seconds=0.0):
    """Start a tool, press Ctrl-C when it has loaded a library; return its status and output."""
    process = subprocess.Popen(
        [sys.executable, f"tools/{name}.py", "--config-file", "configs/none.yaml"],
        cwd=TOOLS.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # not ignored, as in "&"
    )
    while library not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", sorted({*NAMES} - WITHOUT_STARTUP - QUICK))
def test_ctrl_c_during_imports(name):
    assert interrupt(name, "libtorch_cpu") == (130, "interrupted\n")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("library", "seconds"), [("_multiarray_umath", 0), ("libtorch_cpu", 0.3), ("libtorch_cpu", 0.9)]
)
def test_ctrl_c_at_several_moments(library, seconds):
    assert interrupt("train_net", library, seconds) == (130, "interrupted\n")


@pytest.mark.parametrize("name", NAMES)
def test_every_tool_begins_with_it(name):
    tree = ast.parse((TOOLS / f"{name}.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    first = next(node for node in imports if getattr(node, "module", "") != "__future__")
    begins = isinstance(first, ast.Import) and first.names[0].name == "startup"
    assert begins != (name in WITHOUT_STARTUP)
