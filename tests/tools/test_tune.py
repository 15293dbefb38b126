"""`tools/tune.py`: real steps timed on the CPU, and what is kept of them."""

import gc
import itertools
import json
import weakref

import pytest
import torch

from pipeline.errors import DataError
from tools import tune
from tools.cli import exits
from tools.tuning import training_step
from tools.tuning.candidates import candidates
from tools.tuning.contest import Contest
from tools.tuning.training_step import check_room, make_step, usual_recipe
from trainer.tuning import cache
from trainer.tuning.choice import Choice

CPU = torch.device("cpu")
NANO = ["--model", "dynamixer_nano", "--batch", "4", "--no-compile", "--device", "cpu"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "tuned"))
    monkeypatch.delenv("MILLSTREAM_KERNELS", raising=False)
    return tmp_path / "tuned"


def nano(*overrides, batch=4):
    return usual_recipe("dynamixer_nano", batch=batch, dtype="fp32", overrides=overrides)


def test_a_model_is_tuned_told_and_kept(folder, capsys):
    assert tune.main([*NANO, "--budget", "2", "precision.dtype=bf16"]) == 0
    said = capsys.readouterr().out
    assert "Fastest: " in said
    assert "run.tuned true and batch.per_gpu 4" in said.replace("\n", " ")
    (path,) = folder.iterdir()
    kept = json.loads(path.read_text())
    assert kept["case"]["model"] == "dynamixer_nano"
    assert kept["case"]["dtype"] == "bf16"
    layouts = [candidate["choice"]["layout"] for candidate in kept["candidates"]]
    assert layouts == ["channels_last", "contiguous"]
    assert kept["candidates"][0]["seconds"]
    assert all(candidate["seconds"] or candidate["left_out"] for candidate in kept["candidates"])
    assert kept["machine"]["timm"]
    assert cache.read(cache.case_of(nano("precision.dtype=bf16"), CPU)) == Choice(**kept["choice"])


def test_several_batches_are_tuned_one_by_one_and_printed_as_json(folder, capsys):
    assert tune.main([*NANO[:3], "2,4", *NANO[4:], "--budget", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["case"]["batch"] for entry in told] == [2, 4]
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "dynamixr_nano"], "did you mean 'dynamixer_nano'"),
        (["model.img_size=2"], "img_size"),
        (["run.compile=blocks"], "are what is tried here"),
        (["precision.dtyp=bf16"], "did you mean 'dtype'"),
        (["--device", "tpu"], "--device: expected cpu, cuda or cuda:N"),
        (["--batch", "100000000"], "images at once need about"),
    ],
)
def test_what_cannot_be_tuned_is_named(arguments, message, folder, capsys):
    assert tune.main([*NANO, "--budget", "1", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


def test_a_variable_that_decides_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("MILLSTREAM_KERNELS", "0")
    assert tune.main(NANO) == 2
    assert "MILLSTREAM_KERNELS decides over what is to be tried" in capsys.readouterr().err


def interrupted_at(count):
    """`make_step` that Ctrl-C interrupts when it makes step number `count`."""
    made = []

    def make(recipe, choice, device):
        made.append(choice)
        if len(made) == count:
            raise KeyboardInterrupt
        return make_step(recipe, choice, device)

    return make


def test_what_was_timed_before_an_interruption_is_kept(folder, monkeypatch, capsys):
    monkeypatch.setattr("tools.tuning.tuning.make_step", interrupted_at(2))
    assert tune.main([*NANO, "--budget", "30"]) == 75
    (path,) = folder.iterdir()
    kept = json.loads(path.read_text())
    assert kept["is_cut"]
    assert [len(candidate["seconds"]) for candidate in kept["candidates"]] == [1, 0]
    assert "it was interrupted" in capsys.readouterr().out


def test_an_interruption_does_not_replace_what_was_measured_as_a_whole(folder, monkeypatch, capsys):
    case, found = cache.case_of(nano(), CPU), Choice(compile="blocks")
    path = cache.write(case, found, {"is_cut": False})
    before = path.read_bytes()
    monkeypatch.setattr("tools.tuning.tuning.make_step", interrupted_at(2))
    assert tune.main([*NANO, "--budget", "30"]) == 75
    assert path.read_bytes() == before
    said = " ".join(capsys.readouterr().out.split())
    assert "it was interrupted" in said
    assert "Not kept: " in said
    cache.write(case, found, {"is_cut": True})
    monkeypatch.setattr("tools.tuning.tuning.make_step", interrupted_at(2))
    assert tune.main([*NANO, "--budget", "30"]) == 75
    assert cache.read(case) != found


def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_timed(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "tuned").write_text("in the way")
    monkeypatch.setattr("tools.tuning.tuning.make_step", interrupted_at(1))
    assert tune.main(NANO) == exits.IO
    said = capsys.readouterr().err
    assert str(tmp_path / "tuned") in said
    assert "name one in MILLSTREAM_TUNE_CACHE" in said


def test_an_interruption_before_the_first_time_keeps_nothing(folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.tuning.tuning.make_step", interrupt)
    assert tune.main(NANO) == 75
    assert not folder.exists()


def test_candidates_begin_with_the_default_and_are_all_different():
    for name, layouts in (("dynamixer_nano", 2), ("convmixer_256_8", 3)):
        recipe = usual_recipe(name, batch=2, dtype="fp32", overrides=[])
        model = training_step.make_model(recipe)
        for device, kinds in ((CPU, 3), (torch.device("cuda"), 2 * 5)):
            found = candidates(model, device, compiles=True)
            assert found[0] == Choice()
            assert len(set(found)) == len(found) == layouts * kinds
            eager = candidates(model, device, compiles=False)
            assert {choice.compile for choice in eager} == {"none"}


class Clock:
    """Goes on by what steps are said to take."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def lasting(self, *seconds):
        """A step that takes these times in turn."""
        turns = itertools.cycle(seconds)

        def step():
            self.now += next(turns)

        return step


SLOW, FAST = Choice(), Choice(layout="contiguous")


def contest(clock, steps, budget_s=100.0):
    told = {"budget_s": budget_s, "device": CPU, "tell": lambda _: None, "clock": clock}
    found = Contest(list(steps), **told)
    found.run(lambda choice: steps[choice])
    return found


def test_the_faster_one_wins_and_a_draw_leaves_the_default():
    clock = Clock()
    found = contest(clock, {SLOW: clock.lasting(4.0), FAST: clock.lasting(1.0)})
    assert found.winner.choice == FAST
    assert found.speed(found.winner) == 4
    assert not found.is_cut
    drawn = contest(clock, {SLOW: clock.lasting(1.0), FAST: clock.lasting(0.99)})
    assert drawn.winner.choice == SLOW


def test_one_slow_round_decides_nothing():
    clock = Clock()
    steps = {SLOW: clock.lasting(*[2.0] * 4, 50.0), FAST: clock.lasting(3.0)}
    assert contest(clock, steps).winner.choice == SLOW


def test_what_fails_to_compile_is_left_out_with_its_reason():
    def fail():
        raise RuntimeError("no compiler here\nand more")

    clock = Clock()
    found = contest(clock, {SLOW: clock.lasting(1.0), FAST: fail})
    assert found.winner.choice == SLOW
    assert found.candidates[1].left_out == "no compiler here"
    with pytest.raises(RuntimeError, match="no compiler"):
        contest(clock, {SLOW: fail})


def test_what_fits_alone_but_not_beside_the_others_is_left_out_and_the_rest_goes_on():
    """The newest goes, and its memory with it."""
    clock, crowd = Clock(), []

    class Large:
        def __init__(self):
            self.runs = 0

        def __call__(self):
            self.runs += 1
            clock.now += 0.2

    def default():
        large = [step() for step in crowd if step() is not None]
        if large and large[0].runs == 2:  # after its own first steps
            raise torch.OutOfMemoryError
        clock.now += 1.0

    def make(choice):
        if choice == SLOW:
            return default
        step = Large()
        crowd.append(weakref.ref(step))
        return step

    found = Contest([SLOW, FAST], budget_s=10, device=CPU, tell=lambda _: None, clock=clock)
    found.run(make)
    assert found.candidates[1].left_out == "no room in memory beside the others"
    assert len(found.candidates[0].seconds) > 5
    assert found.winner.choice == SLOW
    assert found.timed == found.candidates[:1]


def test_a_contest_that_is_over_keeps_no_model():
    """Another batch has the memory, though what was found is still to be told."""
    made = []

    class Step:
        def __call__(self):
            clock.now += 1.0

    def make(_):
        step = Step()
        made.append(weakref.ref(step))
        return step

    clock = Clock()
    found = Contest([SLOW, FAST], budget_s=10, device=CPU, tell=lambda _: None, clock=clock)
    found.run(make)
    gc.collect()
    assert [step() for step in made] == [None, None]
    assert found.winner.choice == SLOW


def test_what_is_compiled_in_one_layout_serves_no_other(monkeypatch):
    made = []

    def backend(graph, _):
        made.append("contiguous" in graph.code)
        return graph.forward

    def compiled(model, *, blocks, mode):  # by real graphs, without a compiler that takes minutes
        model.compile(dynamic=False, backend=backend)

    monkeypatch.setattr(training_step, "compile_in_place", compiled)
    small = 'model.args={"dim": 8, "depth": 1, "kernel_size": 3}'
    recipe = usual_recipe("convmixer_256_8", batch=2, dtype="fp32", overrides=[small])
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=True):
        for layout in ("channels_last", "contiguous_depthwise"):
            make_step(recipe, Choice(compile="model", layout=layout), CPU)()
    assert made == [False, True]


def test_what_is_not_begun_in_time_is_left_out_and_the_budget_ends_the_rounds():
    clock = Clock()
    found = contest(clock, {SLOW: clock.lasting(2.0), FAST: clock.lasting(1.0)}, budget_s=10.0)
    assert found.candidates[1].left_out == "no time left"
    assert found.winner.choice == SLOW
    assert 10 <= clock.now <= 12


def test_room_is_found_out_with_the_augmentation_that_was_asked_for():
    check_room(nano("augment.mix_prob=0.5", "augment.correct_lam=false", batch=6), CPU)


def test_a_batch_without_room_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(training_step, "available_bytes", lambda *, local_size: 10**6)
    with pytest.raises(DataError, match=r"--batch: 512 images at once need about .* use a smaller"):
        check_room(nano(batch=512), CPU)
