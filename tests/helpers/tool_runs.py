"""Run a tool in a process of its own."""

import argparse
import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def tool(name, *args, datasets=None):
    environment = dict(os.environ)
    if datasets is not None:
        environment["DETECTRON2_DATASETS"] = str(datasets)
    result = subprocess.run(
        [sys.executable, f"tools/{name}.py", *map(str, args)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Warning: " not in result.stderr  # those of Python, about code
    return result


def message(result):
    """The one message of a tool that the user's input stopped."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    return last


def free_port():
    """A port of this machine that nothing listens at."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return holder.getsockname()[1]


class Parsed(Exception):
    pass


def parse(tool, args, monkeypatch):
    """What the tool's own parser makes of the arguments; the tool goes no further."""
    module = importlib.import_module(tool)
    if hasattr(module, "parser"):
        return module.parser().parse_args(args)
    for name in ("parse_args", "parse_intermixed_args"):
        real = getattr(argparse.ArgumentParser, name)

        def stop(self, *_, real=real):
            raise Parsed(real(self, args))

        monkeypatch.setattr(argparse.ArgumentParser, name, stop)
    with pytest.raises(Parsed) as parsed:
        getattr(module, "main", getattr(module, "run", None))()
    return parsed.value.args[0]
