"""The options of tools that compute with a model: how many images at once, where, in what."""

import argparse

from tools.cli.numbers import positive


def add_computing_options(place: argparse._ActionsContainer, *, batch_size: int) -> None:
    """Add --batch-size, with this default, and --device."""
    place.add_argument(
        "--batch-size",
        type=positive,
        default=batch_size,
        metavar="N",
        help="images of a rank at once; default: %(default)s",
    )
    add_device_option(place)


def add_device_option(place: argparse._ActionsContainer) -> None:
    """Add --device."""
    place.add_argument("--device", help="cpu, cuda or cuda:N; default: a GPU where there is one")


def add_data_computing_options(place: argparse._ActionsContainer) -> None:
    """Add --loader and --amp, for tools that read data as training does."""
    place.add_argument(
        "--loader",
        choices=("auto", "host", "dali", "reference"),
        default="auto",
        help="what reads and decodes, as data.loader of a recipe; default: auto",
    )
    place.add_argument("--amp", choices=("bf16", "fp16"), help="autocast; default: float32")
