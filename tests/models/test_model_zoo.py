"""The zoo's counts, and what is committed in docs/."""

import csv
import json
import os
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import models
from benchmarks import model_zoo
from benchmarks.model_cost import macs, parameters, products, step_flops
from benchmarks.model_timing import PLAIN_MODULES, empty_compiler_cache, median_ratio
from benchmarks.paper_figures import NOTES, REPORTED
from benchmarks.zoo_throughput import section

DOCS = Path(__file__).parents[2] / "docs"


def committed_rows() -> dict[str, dict[str, str]]:
    with (DOCS / "model_zoo.csv").open(encoding="utf-8", newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def test_the_committed_table_lists_every_model():
    assert list(committed_rows()) == model_zoo.zoo()
    assert set(models.names()) <= set(REPORTED)


@pytest.mark.parametrize("name", model_zoo.zoo())
def test_the_committed_table_is_current(name):
    row = model_zoo.count(name)
    committed = committed_rows()[name]
    assert (row.parameters, row.macs) == (int(committed["parameters"]), int(committed["macs"]))
    assert tuple(row.reported[:3]) == (
        committed["paper_parameters"],
        committed["paper_flops"],
        committed["paper_top1"],
    )


def test_the_committed_page_and_table_are_what_the_tool_writes():
    # With the committed counts, which the test above holds to the models'.
    columns = ("input_pixels", "classes", "parameters", "macs")
    rows = [
        model_zoo.Row(name, *(int(row[key]) for key in columns), REPORTED[name])
        for name, row in committed_rows().items()
    ]
    speeds = [section(json.loads(p.read_text(encoding="utf-8"))) for p in model_zoo.timed()]
    page = (DOCS / "model_zoo.md").read_text(encoding="utf-8")
    assert page == model_zoo.markdown(rows, speeds)
    assert (DOCS / "model_zoo.csv").read_text(encoding="utf-8") == model_zoo.comma_separated(rows)


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [  # of the authors' code
        ("convmixer_256_8", 100, 617_316),
        ("splitmixer_i_256_8", 100, 298_964),
        ("splitmixer_ii_256_8", 100, 198_500),
        ("splitmixer_iii_256_8", 100, 198_500),
        ("splitmixer_iv_256_8", 100, 330_596),
        ("convmixer_256_8_ks7_p7", 102, 701_542),
        ("splitmixer_i_256_8_ks7_p7", 102, 342_230),
        ("splitmixer_ii_256_8_ks7_p7", 102, 241_766),
        ("splitmixer_iii_256_8_ks7_p7", 102, 241_766),
        ("splitmixer_iv_256_8_ks7_p7", 102, 373_862),
    ],
)
def test_notes_give_the_parameters_with_the_classes_of_other_data_sets(name, classes, expected):
    with torch.device("meta"):
        assert parameters(timm.create_model(name, num_classes=classes)) == expected
    if classes == 100:
        assert "cifar100" in REPORTED[name].notes
        assert f"{expected:,}" in NOTES["cifar100"]
    else:
        assert "flowers102" in REPORTED[name].notes
        assert f"{expected - model_zoo.count(name).parameters} parameters" in NOTES["flowers102"]


UNITS = {"M": 1e6, "G": 1e9}


@pytest.mark.parametrize("name", model_zoo.zoo())
def test_what_differs_from_the_papers_has_a_footnote(name):
    row = committed_rows()[name]
    for ours, theirs in (("parameters", "paper_parameters"), ("macs", "paper_flops")):
        if not row[theirs]:
            continue
        number, unit = row[theirs][:-1], UNITS[row[theirs][-1]]
        digits = len(number.partition(".")[2])
        if f"{int(row[ours]) / unit:.{digits}f}" != number:
            assert row["notes"], (ours, row[ours], row[theirs])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sizes", "0"], "--batch-sizes: expected numbers of at least 1: [0]"),
        (["--batch-sizes", "4"], "nothing is timed without --throughput; add it"),
        (["--write", "no/such"], "--write: no/such: no such folder"),
    ],
)
def test_bad_arguments_of_the_zoo_are_refused_in_words(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        model_zoo.main(["dynamixer_s", *arguments])
    assert message in capsys.readouterr().err


# Counted with another tool on the authors' code, in units of 1e9.
AUTHORS_MACS = {
    "dynamixer_s": 7.302,
    "dynamixer_l": 27.343,
    "vip_s14": 6.856,
    "vip_m7": 16.284,
    "amixer_deit_s": 4.487,
    "amixer_t": 4.357,
    "amixer_b": 15.177,
    "splitmixer_768_32": 9.059,
    "splitmixer_1024_20_ks9_p14": 2.631,
    "convmixer_1536_20": 51.099,
    "splitmixer_ii_256_8": 0.03959,
    "splitmixer_v_256_8": 0.12441,
    "splitmixer_iv_256_8_ks7_p7": 0.33636,
    "lvvit_t": 2.868,
    "lvvit_s": 6.551,
    "lvvit_m": 12.678,
    "lvvit_l": 34.637,
    "gfnet_ti": 1.272,
    "gfnet_xs": 2.833,
    "gfnet_s": 4.451,
    "gfnet_b": 7.887,
    "gfnet_h_ti": 2.040,
    "gfnet_h_s": 4.582,
    "gfnet_h_b": 8.512,
    "convmlp_s": 2.385,
    "convmlp_m": 3.929,
    "convmlp_l": 9.870,
    "eamlp_7": 1.465,
    "eamlp_14": 6.450,
    "eamlp_19": 11.598,
    "eamlp_24": 18.820,
    "cyclemlp_b1": 2.122,
    "cyclemlp_b2": 3.876,
    "cyclemlp_b3": 6.831,
    "cyclemlp_b4": 10.027,
    "cyclemlp_b5": 12.232,
    "hire_mlp_tiny": 2.144,
    "hire_mlp_small": 4.231,
    "hire_mlp_base": 8.111,
    "hire_mlp_large": 13.422,
    "as_mlp_tiny": 4.350,
    "as_mlp_small": 8.512,
    "as_mlp_base": 15.126,
    "smlpnet_tiny": 4.989,
    "smlpnet_small": 10.312,
    "smlpnet_base": 13.987,
    "raftmlp_s": 2.087,
    "raftmlp_m": 4.267,
    "raftmlp_l": 6.544,
    "raftmlp_12": 12.024,
    "raftmlp_36": 8.989,
    # For want of the authors' code, of the readings that fit the papers.
    "cyclemlp_t": 4.350,
    "cyclemlp_s": 8.512,
    "cyclemlp_b": 15.126,
    "s2_mlpv2_small_7": 6.902,
    "s2_mlpv2_medium_7": 16.284,
}


@pytest.mark.parametrize("name", AUTHORS_MACS)
def test_multiply_adds_are_the_authors(name):
    assert int(committed_rows()[name]["macs"]) / 1e9 == pytest.approx(AUTHORS_MACS[name], rel=5e-4)


@pytest.mark.parametrize(
    ("theirs", "row", "billions"),
    [
        ("T2t_vit_7", "eamlp_7", 1.465),
        ("gfnet-h-ti", "gfnet_h_ti", 2.040),
        ("convmlp_s_classification", "convmlp_s", 2.385),
        ("lvvit", "lvvit", 6.476),
        ("lvvit_repo_vit", "lvvit_repo_vit", 5.183),
        ("CycleMLP_B1", "cyclemlp_b1", 2.122),
        ("asmlp_tiny_patch4_shift5_224", "as_mlp_tiny", 4.350),
        ("cross-mlp-emb-s", "raftmlp_s", 2.087),
        ("r-2-cross-mlp-emb", "r-2-cross-mlp-emb", 12.082),
        ("hierarchy-m", "hierarchy-m", 3.747),
    ],
)
def test_the_authors_names_are_counted(theirs, row, billions):
    counted = model_zoo.count(theirs)
    assert counted.name == row
    assert counted.macs / 1e9 == pytest.approx(billions, rel=5e-4)
    assert model_zoo.main([theirs]) == 0


@pytest.mark.parametrize("before", [None, "/somewhere"])
def test_the_compilers_cache_is_put_back_even_after_a_failure(before, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    if before:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    with pytest.raises(ZeroDivisionError), empty_compiler_cache(torch.device("cpu")):
        _ = 1 // (os.environ["TORCHINDUCTOR_CACHE_DIR"] == before)
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before


def test_every_note_is_used():
    assert {key for reported in REPORTED.values() for key in reported.notes} == set(NOTES)


def test_unknown_names_are_refused_with_the_list(capsys):
    with pytest.raises(SystemExit, match="2"):
        model_zoo.main(["dynamixer_xl"])
    assert "not in the zoo: dynamixer_xl; it has dynamixer_s" in capsys.readouterr().err


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding="same")
        self.depthwise = nn.Conv2d(8, 8, 5, padding="same", groups=8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.depthwise(self.first(x)).mean(dim=(2, 3)))


def test_convolutions_are_counted_forward_and_backward():
    area = 12 * 16
    expected = [area * 3 * 8 * 9, area * 8 * 25, 8 * 10]
    assert macs(Convolutions, (3, 12, 16)) == sum(expected)
    counted = products(Convolutions, input_size=(3, 12, 16), batch_size=2)
    # Gradients of inputs and weights cost as much as the forward pass each; images have none.
    assert step_flops(counted, training=True) == 2 * 2 * (3 * sum(expected) - expected[0])
    assert [p.is_depthwise for p in counted] == [False, True, False]


def test_ratios_are_taken_within_rounds():
    assert median_ratio([1.0, 10.0, 3.0], [0.5, 5.0, 1.0]) == 2.0


def test_every_family_has_a_plain_transcription():
    assert {f"models.{family}" for family in models.FAMILIES} == set(PLAIN_MODULES)
