"""The benchmark of models: what it measures, how it goes on, and its page."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import bench_model, model_speed, model_speed_table
from benchmarks.model_limits import measured_peaks
from benchmarks.model_timing import Settings, device_limits, make_runs
from models.half_norms import HalfLayerNorm
from models.kernels import switch

ROOT = Path(__file__).parents[2]
SMALLEST = "splitmixer_ii_256_8"
QUICK = ("--batch-size", "2", "--rounds", "2", "--modes", "inference", "--compiled")
QUICK += ("--malloc", "default")


@pytest.fixture(autouse=True)
def quick_peaks(monkeypatch):
    monkeypatch.setattr(measured_peaks, "SIDE", 128)
    monkeypatch.setattr(measured_peaks, "COPIED_BYTES", 1 << 20)


def settings(**changed: object) -> Settings:
    given: dict[str, object] = {
        "batch_size": 2,
        "rounds": 1,
        "steps": 1,
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "channels_last": True,
        "compiled": (),
    }
    return Settings(**{**given, **changed})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["dynamixer_nano", "splitmixer_iv_256_8"])
def test_variants_have_the_same_weights(name):
    runs = make_runs(name, "inference", settings())
    assert list(runs) == ["plain", "ours"]
    torch.testing.assert_close(runs["plain"].output(), runs["ours"].output())


@pytest.mark.parametrize("autocast", [False, True])
def test_autocast_leaves_weights_and_gradients_in_float32(autocast):
    given = settings(dtype=torch.bfloat16, autocast=autocast)
    run, exact = [
        torch.manual_seed(0) and make_runs("dynamixer_nano", "training", how)["ours"]
        for how in (given, settings())
    ]
    run.step()
    stored = torch.float32 if autocast else torch.bfloat16
    for parameter in run.model.parameters():
        assert parameter.dtype == stored
        assert parameter.grad is not None
        assert parameter.grad.dtype == stored
    # Of the same images and weights, which no optimizer has changed.
    # Products in bfloat16 are off by about 2^-9 each.
    error = (run.output() - exact.output()).abs().max()
    assert 0 < error < 0.1 * exact.output().abs().max()


@pytest.mark.parametrize(
    ("dtype", "autocast", "expected"),
    [
        (torch.bfloat16, True, {"plain": False, "ours": True}),
        (torch.float16, True, {"plain": False, "ours": False}),
        (torch.bfloat16, False, {"plain": False, "ours": False}),
    ],
)
def test_autocast_in_bfloat16_gives_ours_the_norms_of_the_trainer(dtype, autocast, expected):
    runs = make_runs("dynamixer_nano", "inference", settings(dtype=dtype, autocast=autocast))
    found = {
        variant: any(isinstance(module, HalfLayerNorm) for module in run.model.modules())
        for variant, run in runs.items()
    }
    assert found == expected


@pytest.mark.parametrize("name", ["dynamixer_nano", SMALLEST])
def test_limits_count_what_fused_kernels_compute(name, monkeypatch):
    found = []
    for enabled in (False, True):
        monkeypatch.setattr(switch, "ENABLED", enabled)
        limits = device_limits(name, "inference", settings())
        assert limits is not None
        found.append((limits["flops_per_step"], limits["least_bytes_per_step"]))
    assert found[0] == found[1]


def test_an_interrupted_measurement_goes_on(tmp_path, capsys):
    output = tmp_path / "results.json"
    names = [SMALLEST, "splitmixer_iii_256_8"]
    command = [*names, *QUICK, "--output", str(output)]
    assert bench_model.main([*command, "--seconds", "0"]) == 75
    assert f"not in the 0 seconds given: {SMALLEST} (inference)" in capsys.readouterr().out
    assert not output.exists()
    assert bench_model.main([SMALLEST, *command[2:]]) == 0
    (first,) = json.loads(output.read_text(encoding="utf-8"))["results"]
    assert bench_model.main(command) == 0
    results = json.loads(output.read_text(encoding="utf-8"))["results"]
    assert results[0] == first
    assert [(r["model"], r["mode"]) for r in results] == [(name, "inference") for name in names]
    whole = output.read_bytes()
    assert bench_model.main(command) == 0
    assert output.read_bytes() == whole
    with pytest.raises(SystemExit, match="2"):
        bench_model.main([*command, "--rounds", "3"])
    assert "has results with rounds 2, and this is 3; delete it" in capsys.readouterr().err


def test_results_say_how_near_the_limits_a_step_is(tmp_path):
    output = tmp_path / "results.json"
    assert bench_model.main([SMALLEST, *QUICK, "--output", str(output)]) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    (result,) = report["results"]
    limits = result["device_limits"]
    assert limits["flops_per_step"] == 2 * 2 * result["macs"]
    assert limits["peaks"].startswith("measured")
    shares = result["shares_of_time"]["plain"]
    assert 0.05 < shares["products"] < shares["products"] + shares["functions"] < 1
    assert result["kept_bytes"] >= 0
    fastest_s = sorted(result["seconds_per_step"]["ours"])
    used = limits["flops_per_step"] / (sum(fastest_s) / 2) / limits["matmul_flops_per_s"]
    text = model_speed_table.render([report])
    assert f"| {used:.0%} | {limits['least_s_per_step'] / (sum(fastest_s) / 2):.0%} |" in text
    at_most = model_speed_table.products([report])
    assert f"| {shares['products']:.0%} | {1 / shares['products']:.2f}x |" in at_most


@pytest.mark.slow  # two compilations
def test_compiled_variants_are_measured(tmp_path):
    output = tmp_path / "results.json"
    options = [option for option in QUICK if option != "--compiled"]
    assert bench_model.main(["stridemixer_iii_256_8", *options, "--output", str(output)]) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    (result,) = report["results"]
    assert list(result["seconds_per_step"]) == ["plain", "ours", "whole", "blocks"]
    assert max(result["largest_relative_difference_from_plain"].values()) < 1e-4
    assert all(len(seconds) == 2 for seconds in result["seconds_per_step"].values())
    assert "| stridemixer_iii_256_8 | 2 | 0.18 | 0.073 |" in model_speed_table.render([report])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dynamixer_xl"], "unknown dynamixer_xl"),
        ([], "name at least one model"),
        (["amixer_t", "--rounds", "0"], "expected a number of at least 1, got '0'"),
        (["amixer_t", "--autocast", "bfloat16", "--dtype", "float32"], "leave --dtype out"),
    ],
)
def test_bad_arguments_are_refused_in_words(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench_model.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("part", model_speed.PARTS)
def test_every_part_of_the_page_can_be_measured(part):
    parsed = bench_model._parser().parse_args(model_speed.PARTS[part])
    assert set(parsed.names) <= set(bench_model.models.names())


def test_without_time_no_part_is_begun(capsys):
    assert model_speed.main(["cpu_large", "--seconds", "0"]) == 75
    assert "cpu_large: the time is over" in capsys.readouterr().out


def test_the_page_has_every_table_and_no_other():
    text = model_speed_table.PAGE.read_text(encoding="utf-8")
    marks = re.findall(r"<!-- (?!end)([^>]+?) -->", text)
    assert sorted(marks) == sorted(model_speed_table.tables(model_speed_table.read()))


def test_the_page_is_made_from_the_committed_results():
    text = model_speed_table.PAGE.read_text(encoding="utf-8")
    assert model_speed_table.page(text, model_speed_table.read()) == text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_that_is_kept_does_not_grow_from_step_to_step():
    code = (
        "import psutil\n"
        "from trainer.process.allocator import TOP_PAD, keep_freed_memory\n"
        "def step():\n"
        "    blocks = [bytearray(b'x') * ((n % 7 + 1) << 20) for n in range(40)]\n"
        "    return sum(map(len, blocks))\n"
        "before = psutil.Process().memory_info().rss\n"
        "assert keep_freed_memory()\n"
        "taken = [step() for _ in range(20)][0]\n"
        "print(psutil.Process().memory_info().rss - before, taken + TOP_PAD)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    kept, bound = map(int, shown.stdout.split())
    assert 0 < kept <= bound
