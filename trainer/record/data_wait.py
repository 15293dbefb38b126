"""How much of a run went on waiting for data, in a sentence."""

_LITTLE = 0.03


def waiting_in_words(fraction: float) -> str:
    """Say what share of the training time the model waited for data, and what to do about it."""
    waited = f"the model waited for data {100 * fraction:.1f} % of the time"
    if fraction < _LITTLE:
        return f"{waited}: it is the bottleneck itself, and loading keeps up"
    return (
        f"{waited}: without that, training would be {1 / (1 - min(fraction, 0.99)):.2f} times as"
        " fast. Raise data.threads where cores are idle; tools/bench_loader.py --config RECIPE says"
        " which part of loading is slow, and which setting to turn"
    )
