"""Moves along a line against their definitions, place by place, and their gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.layers.shifts import periodic, shift, step

LENGTHS = st.integers(1, 9)


def line(length, dim):
    """Distinct numbers along `dim` of four."""
    values = torch.arange(1.0, length + 1, dtype=torch.float64)
    return values.view([length if d == dim else 1 for d in range(4)]).repeat(2, 2, 2, 3)


def entries(x, dim):
    return x.movedim(dim, 0)[:, 0, 0, 0].tolist()


@given(length=LENGTHS, by=st.integers(-12, 12), dim=st.sampled_from([1, 2]))
def test_zeros_come_in_where_a_line_moves(length, by, dim):
    x = line(length, dim)
    places = range(x.shape[dim])
    expected = [entries(x, dim)[i - by] if i - by in places else 0.0 for i in places]
    assert entries(shift(x, by, dim), dim) == expected


@given(length=LENGTHS, by=st.sampled_from([1, -1]), dim=st.sampled_from([1, 2]))
def test_the_border_keeps_its_own_value_in_a_step(length, by, dim):
    x = line(length, dim)
    side = x.shape[dim]
    expected = [entries(x, dim)[min(max(i - by, 0), side - 1)] for i in range(side)]
    assert entries(step(x, by, dim), dim) == expected


@given(
    length=LENGTHS,
    start=st.integers(-20, 20),
    count=st.integers(1, 30),
    dim=st.sampled_from([1, 2]),
)
def test_a_line_goes_on_without_end(length, start, count, dim):
    x = line(length, dim)
    side = x.shape[dim]
    expected = [entries(x, dim)[(start + i) % side] for i in range(count)]
    assert entries(periodic(x, start, count, dim), dim) == expected


@pytest.mark.parametrize(
    "move",
    [
        lambda x: shift(x, 2, 1),
        lambda x: shift(x, -1, 2),
        lambda x: shift(x, 9, 1),
        lambda x: step(x, 1, 1),
        lambda x: step(x, -1, 2),
        lambda x: periodic(x, -2, 9, 1),
    ],
)
def test_gradients_of_moves_are_right(move):
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(move, (x,))
