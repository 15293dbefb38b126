"""How much of a step on a CPU is matrix products and convolutions: what no arrangement can save.

Whoever computes the same products and everything else in no time is 1 / share times as fast
(Amdahl's law).
"""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

PRODUCT_OPS = {
    "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_convolution",
    "aten::mkldnn_linear", "aten::convolution_backward", "aten::_slow_conv2d_forward",
    "aten::_slow_conv2d_backward",
}  # fmt: skip


def product_seconds(step: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of an eager step, under the profiler: in products themselves, and in all."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    times = {event.key: event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    return sum(times.get(key, 0.0) for key in PRODUCT_OPS), sum(times.values())
