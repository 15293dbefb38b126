"""How much of a step on a CPU no arrangement can save: products, and the functions between them.

Whoever computes the same products and everything else in no time is 1 / share times as fast
(Amdahl's law). Softmax, activations and norms cannot be left out either; a compiler may compute
them on the way from one product to the next, which saves their passes over memory but not their
arithmetic.
"""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

PRODUCTS = {
    "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_convolution",
    "aten::mkldnn_linear", "aten::convolution_backward", "aten::_slow_conv2d_forward",
    "aten::_slow_conv2d_backward",
}  # fmt: skip
FUNCTIONS = {
    "aten::_softmax", "aten::_softmax_backward_data", "aten::gelu", "aten::gelu_backward",
    "aten::relu", "aten::clamp_min", "aten::threshold_backward", "aten::native_layer_norm",
    "aten::native_layer_norm_backward", "aten::native_batch_norm",
    "aten::native_batch_norm_backward",
}  # fmt: skip


def shares(step: Callable[[], object]) -> dict[str, float]:
    """Shares of an eager step's time, under the profiler, that operations take themselves."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    return {
        kind: sum(times.get(key, 0.0) for key in keys) / sum(times.values())
        for kind, keys in (("products", PRODUCTS), ("functions", FUNCTIONS))
    }
