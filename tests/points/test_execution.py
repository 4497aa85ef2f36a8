"""The one rule by which the order that is fast on a CPU is taken."""

import torch

from pointrend_seg.points.execution import is_eager_on_cpu

X = torch.zeros(1)


def test_on_a_cpu_without_gradients():
    with torch.no_grad():
        assert is_eager_on_cpu(X)
        assert not is_eager_on_cpu(X.to("meta"))
    assert not is_eager_on_cpu(X) and is_eager_on_cpu(X, with_gradients=True)


def test_no_graph_is_made_of_it():
    seen = []

    def traced(x):
        with torch.no_grad():
            seen.append(is_eager_on_cpu(x, with_gradients=True))
        return x + 1

    torch.jit.trace(traced, X, check_trace=False)
    torch.compiler.reset()
    with torch.no_grad():
        compiled = torch.compile(
            lambda x: x + 1 if is_eager_on_cpu(x) else x + 2, backend="eager", fullgraph=True
        )
        assert compiled(X) == 2
    assert not any(seen)
