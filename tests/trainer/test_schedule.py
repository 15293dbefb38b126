"""The learning rate at its breakpoints, against the formulas that the recipes state."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.optimization.schedule import ScheduleConfig, lr_at

STEPS = 10


def rate(step: int, lr: float = 1.0, **fields: object) -> float:
    return lr_at(step, lr=lr, config=ScheduleConfig(**fields), steps_per_epoch=STEPS)


TIMM = {
    "epochs": 300,
    "update": "epoch",
    "cosine_from": "start",
    "warmup_epochs": 20,
    "warmup_lr": 1e-6,
    "min_lr": 1e-5,
    "cooldown_epochs": 10,
}


@pytest.mark.parametrize("epoch", [0, 1, 19])
def test_timm_warmup_is_linear_in_the_epoch(epoch):
    expected = 1e-6 + epoch * (2e-3 - 1e-6) / 20
    assert rate(epoch * STEPS, lr=2e-3, **TIMM) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("epoch", [20, 150, 299])
def test_timm_cosine_counts_from_epoch_zero(epoch):
    expected = 1e-5 + 0.5 * (2e-3 - 1e-5) * (1 + math.cos(math.pi * epoch / 300))
    assert rate(epoch * STEPS, lr=2e-3, **TIMM) == pytest.approx(expected, rel=1e-12)


def test_the_first_cosine_epoch_of_the_published_recipe_is_at_989_thousandths():
    assert rate(20 * STEPS, lr=2e-3, **TIMM) / 2e-3 == pytest.approx(0.989, abs=5e-4)


@pytest.mark.parametrize("epoch", [300, 305, 309])
def test_cooldown_stays_at_min_lr(epoch):
    assert rate(epoch * STEPS, lr=2e-3, **TIMM) == 1e-5


@given(epoch=st.integers(0, 309), inside=st.integers(1, STEPS - 1))
def test_update_by_epoch_is_constant_within_an_epoch(epoch, inside):
    assert rate(epoch * STEPS + inside, **TIMM) == rate(epoch * STEPS, **TIMM)


def test_cosine_from_warmup_peaks_where_warmup_ends_and_ends_at_min_lr():
    config = {"epochs": 30, "warmup_epochs": 5, "min_lr": 1e-3}
    assert rate(0, **config) == 0.0
    assert rate(5 * STEPS, **config) == 1.0
    half = rate(5 * STEPS + 25 * STEPS // 2, **config)
    assert half == pytest.approx((1.0 + 1e-3) / 2, rel=1e-12)
    assert rate(30 * STEPS - 1, **config) == pytest.approx(1e-3, abs=2e-4)


@pytest.mark.parametrize(
    ("done", "expected"), [(40, 1.0), (80, 0.05), (100, 0.0), (20, 0.5), (60, 0.525), (90, 0.025)]
)
def test_onecycle_breakpoints(done, expected):
    # The rate of a step is that of its end: step s of 1000 is at (s + 1) / 1000.
    step = done * STEPS - 1
    assert rate(step, shape="onecycle", epochs=100) == pytest.approx(expected, abs=1e-12)


def test_a_constant_rate_stays_where_warmup_ends():
    config = {"shape": "constant", "epochs": 10, "warmup_epochs": 2}
    assert rate(STEPS, **config) == 0.5
    assert {rate(step, **config) for step in range(2 * STEPS, 10 * STEPS)} == {1.0}


@pytest.mark.parametrize(
    ("epoch", "expected"), [(1, 0.5), (2, 1.0), (6, 1.0), (8, 0.55), (10, 0.1)]
)
def test_warmup_stable_decay_is_three_lines(epoch, expected):
    config = {"epochs": 10, "warmup_epochs": 2, "decay_epochs": 4, "min_lr": 0.1}
    assert rate(epoch * STEPS, shape="wsd", **config) == pytest.approx(expected, rel=1e-12)


def test_warmup_stable_decay_by_epoch_is_constant_within_an_epoch():
    config = {"shape": "wsd", "epochs": 10, "decay_epochs": 4, "update": "epoch"}
    assert rate(8 * STEPS + 9, **config) == rate(8 * STEPS, **config) == 0.5


@given(
    epochs=st.integers(2, 50),
    warmup=st.integers(0, 1),
    step=st.integers(0, 600),
    shape=st.sampled_from(["cosine", "onecycle"]),
)
def test_the_rate_stays_between_zero_and_its_peak(epochs, warmup, step, shape):
    warmup = 0 if shape == "onecycle" else warmup
    value = rate(step, lr=0.1, shape=shape, epochs=epochs, warmup_epochs=warmup)
    assert 0 <= value <= 0.1 + 1e-15


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"epochs": 5, "warmup_epochs": 5}, "warmup_epochs must be in [0, epochs = 5), got 5"),
        ({"epochs": 5, "min_lr": -1.0}, "min_lr must be >= 0"),
        ({"epochs": 5, "shape": "wsd"}, "decay_epochs must be in [1, epochs"),
        ({"epochs": 5, "decay_epochs": 1}, "decay_epochs has no effect with shape cosine"),
        ({"epochs": 5, "shape": "constant", "min_lr": 0.1}, "shape constant never leaves lr"),
        ({"epochs": 5, "shape": "onecycle", "warmup_epochs": 1}, "leave warmup_epochs"),
        ({"epochs": 5, "shape": "onecycle", "min_lr": 0.1}, "and min_lr out, or set them to 0"),
    ],
)
def test_an_impossible_schedule_is_refused(fields, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace(")", r"\)")):
        ScheduleConfig(**fields)
