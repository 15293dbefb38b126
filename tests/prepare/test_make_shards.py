"""make_shards: what it writes is read by others, is always the same, and survives any death."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from wds2idx import IndexCreator

from pipeline.formats.open import open_source
from pipeline.formats.shard_folder import STATE_FOLDER
from pipeline.prepare.conversion.parts import WHOLE, claimed
from pipeline.storage import locks
from tools.cli import exits
from tools.cli.progress import ImageProgress
from tools.make_shards import main

SMALL_SHARDS = ("--shard-samples", "10")


def _make(source, output, *options):
    return main([str(source), "--output", str(output), *options])


def _digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _files(source):
    """Return key -> bytes, label of the training images."""
    folders = sorted((source / "train").iterdir())
    return {
        f"{folder.name}/{file.stem}": (file.read_bytes(), label)
        for label, folder in enumerate(folders)
        for file in folder.iterdir()
    }


@pytest.fixture(scope="module")
def shards(image_folder, tmp_path_factory):
    """Both splits in shards of ten images. Read-only."""
    output = tmp_path_factory.mktemp("made") / "shards"
    assert _make(image_folder, output, *SMALL_SHARDS) == 0
    return output


@pytest.fixture(scope="module")
def expected(shards):
    return _digests(shards)


def _command(source, output, *options):
    command = [sys.executable, "-m", "tools.make_shards", str(source), "--output", str(output)]
    return [*command, *SMALL_SHARDS, *options]


# webdataset never closes the tars that it has read to the end.
leaves_files_open = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

# --- what others read -------------------------------------------------------------------------


def test_tarfile_reads_plain_members_without_times_or_owners(image_folder, shards):
    found = {}
    for path in sorted((shards / "train").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                assert member.isreg()
                assert not member.pax_headers
                assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
                found[member.name] = tar.extractfile(member).read()
    images = _files(image_folder)
    assert len(found) == 3 * len(images)
    for key, (data, label) in images.items():
        assert found[f"{key}.jpg"] == data
        assert found[f"{key}.cls"] == str(label).encode()
        assert found[f"{key}.i4"] == label.to_bytes(4, "little")


def test_gnu_tar_lists_the_members(shards):
    path = shards / "val" / "val-000000.tar"
    listed = subprocess.run(["tar", "-tf", str(path)], capture_output=True, check=True, text=True)
    assert len(listed.stdout.splitlines()) == 30
    assert listed.stderr == ""


@leaves_files_open
def test_webdataset_reads_the_samples(image_folder, shards):
    urls = [str(path) for path in sorted((shards / "train").glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert {s["__key__"]: (s["jpg"], int(s["cls"])) for s in samples} == _files(image_folder)
    assert len(samples) == 62


def test_dali_reads_the_samples_through_our_index(image_folder, shards):
    from nvidia.dali import fn, pipeline_def, types

    tars = sorted((shards / "train").glob("*.tar"))

    @pipeline_def(batch_size=8, num_threads=1, device_id=None)
    def read():
        images, labels = fn.readers.webdataset(
            paths=[str(tar) for tar in tars],
            index_paths=[str(tar.with_suffix(".idx")) for tar in tars],
            ext=["jpg", "i4"],
            dtypes=[types.UINT8, types.INT32],
            missing_component_behavior="error",
            name="reader",
        )
        return images, labels

    pipe = read()
    pipe.build()
    images = _files(image_folder)
    assert pipe.reader_meta("reader")["epoch_size"] == len(images)
    found = []
    while len(found) < len(images):
        data, labels = pipe.run()
        found += [(bytes(data.at(i)), int(labels.at(i)[0])) for i in range(len(data))]
    assert sorted(found[: len(images)]) == sorted(images.values())


def test_dali_index_is_what_wds2idx_makes(shards, tmp_path):
    for tar in sorted(shards.rglob("*.tar")):
        made = tmp_path / "made.idx"
        with IndexCreator(str(tar), str(made), verbose=False) as creator:
            creator.create_index()
        assert made.read_text() == tar.with_suffix(".idx").read_text()


@leaves_files_open
def test_timm_reads_the_samples(image_folder, shards):
    from timm.data.readers.reader_wds import ReaderWds

    last = len(list((shards / "train").glob("*.tar"))) - 1
    images = _files(image_folder)
    reader = ReaderWds(
        str(shards / "train"), split=f"train-{{000000..{last:06d}}}.tar|{len(images)}"
    )
    labels = [target for _, target in reader]
    assert sorted(labels) == sorted(label for _, label in images.values())


@leaves_files_open
def test_json_member_says_what_is_known(image_folder, tmp_path):
    assert _make(image_folder, tmp_path / "out", "--metadata") == 0
    samples = {
        s["__key__"]: json.loads(s["json"])
        for s in webdataset.WebDataset(str(tmp_path / "out/val/val-000000.tar"), shardshuffle=False)
    }
    source = open_source(image_folder / "val")
    for sample in source.read_many(range(len(source))):
        assert samples[sample.key] == {
            "key": sample.key,
            "class": source.classes[sample.label],
            "label": sample.label,
            "width": sample.width,
            "height": sample.height,
        }


# --- always the same --------------------------------------------------------------------------


def test_manifest_counts_and_identifies_what_is_there(image_folder, shards):
    manifest = json.loads((shards / "train/manifest.json").read_bytes())
    folders = sorted((image_folder / "train").iterdir())
    assert manifest["class_counts"] == {f.name: len(list(f.iterdir())) for f in folders}
    assert manifest["samples"] == sum(manifest["class_counts"].values())
    digests = _digests(shards / "train")
    for file in [*manifest["shards"], manifest["index"]]:
        assert digests[file["name"]] == file["sha256"]
    assert str(image_folder.parent) not in (shards / "train/manifest.json").read_text()


@pytest.mark.parametrize("options", [(), ("--quality", "80", "--resize", "64")])
def test_number_of_workers_changes_no_byte(image_folder, tmp_path, options):
    outputs = [tmp_path / "one", tmp_path / "three"]
    for output, workers in zip(outputs, ("1", "3"), strict=True):
        assert _make(image_folder, output, *SMALL_SHARDS, "--workers", workers, *options) == 0
    assert _digests(outputs[0]) == _digests(outputs[1])


def test_copy_of_the_source_gives_the_same_bytes(image_folder, expected, tmp_path):
    copy = shutil.copytree(image_folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert _make(copy, tmp_path / "out", *SMALL_SHARDS) == 0
    assert _digests(tmp_path / "out") == expected


def test_source_is_left_untouched(image_folder, tmp_path):
    def state():
        paths = sorted(image_folder.rglob("*"))
        return [(p, p.stat().st_mtime_ns, p.stat().st_mode) for p in paths], _digests(image_folder)

    before = state()
    assert _make(image_folder, tmp_path / "out") == 0
    assert state() == before


def test_finished_output_is_not_written_again(image_folder, shards, expected):
    times = {path: path.stat().st_mtime_ns for path in shards.rglob("*")}
    assert _make(image_folder, shards, *SMALL_SHARDS) == 0
    assert {path: path.stat().st_mtime_ns for path in shards.rglob("*")} == times
    assert _digests(shards) == expected


# --- any death --------------------------------------------------------------------------------

_KILL_AT_EVENT = """
import os, signal, sys
from tools.make_shards import main
events, target, output = 0, int(sys.argv[1]), sys.argv[3]
def count(event, arguments):
    global events
    changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (changes or writes) and str(arguments[0]).startswith(output):
        events += 1
        if events == target:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
code = main([sys.argv[2], "--output", output, "--shard-samples", "10", "--split", "val"])
print(events)
sys.exit(code)
"""


def _run_until_event(number, source, output):
    command = [sys.executable, "-c", _KILL_AT_EVENT, str(number), str(source), str(output)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_a_change_on_disk_a_rerun_gives_the_same_bytes(image_folder, tmp_path, step):
    undisturbed = _run_until_event(0, image_folder, tmp_path / "undisturbed")
    assert undisturbed.returncode == 0
    expected = _digests(tmp_path / "undisturbed")
    num_events = int(undisturbed.stdout.split()[-1])
    assert num_events > 30
    for number in range(1, num_events + 1, step):
        output = tmp_path / f"killed-{number}"
        killed = _run_until_event(number, image_folder, output)
        assert killed.returncode == -signal.SIGKILL
        assert _make(image_folder, output, *SMALL_SHARDS, "--split", "val") == 0
        assert _digests(output) == expected, f"killed at event {number} of {num_events}"
        shutil.rmtree(output)


@pytest.mark.parametrize("num_shards", [1, 3, 6])
def test_killed_with_its_workers_at_work_a_rerun_gives_the_same_bytes(
    image_folder, expected, tmp_path, num_shards
):
    output = tmp_path / "out"
    process = subprocess.Popen(_command(image_folder, output, "--workers", "2"))
    while len(list(output.glob("train/*.tar"))) < num_shards:
        assert process.poll() is None
    process.kill()
    process.wait()
    assert _make(image_folder, output, *SMALL_SHARDS) == 0
    assert _digests(output) == expected


def _children(process):
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_workers_that_outlive_their_killed_parent_hold_the_output(
    image_folder, expected, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "out"
    process = subprocess.Popen(_command(image_folder, output, "--workers", "2"))
    while not list(output.glob("train/*.tar")):
        assert process.poll() is None
    workers = _children(process)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    process.kill()
    process.wait()
    with monkeypatch.context() as impatient:
        impatient.setattr(locks, "PATIENCE_S", 0)
        assert _make(image_folder, output, *SMALL_SHARDS) == exits.OUTPUT
    assert "another process is writing shards here" in capsys.readouterr().err
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    assert _make(image_folder, output, *SMALL_SHARDS) == 0
    assert _digests(output) == expected


@pytest.fixture(scope="module")
def many_images(image_folder, tmp_path_factory):
    """Each image forty times, as links: hundreds of shards remain when the first is there."""
    root = tmp_path_factory.mktemp("many") / "images"
    for path in image_folder.glob("*/*/*"):
        folder = root / path.parent.relative_to(image_folder)
        folder.mkdir(parents=True, exist_ok=True)
        for copy in range(40):
            (folder / f"{path.stem}_{copy}.jpg").hardlink_to(path)
    return root


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_so_and_a_rerun_goes_on(many_images, tmp_path, number):
    output, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    process = subprocess.Popen(
        _command(many_images, output, "--verify", "--workers", "2"),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(output.glob("train/*.tar")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate()
    assert process.returncode == exits.INTERRUPTED, error
    assert "interrupted; run the same command again to go on" in error
    assert "Traceback" not in error
    written = {p: p.stat().st_mtime_ns for p in output.glob("train/*.tar")}
    for folder in (output, undisturbed):
        assert _make(many_images, folder, *SMALL_SHARDS, "--verify") == 0
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert _digests(output) == _digests(undisturbed)


def test_full_disk_is_told_and_a_rerun_goes_on(image_folder, expected, tmp_path):
    output = tmp_path / "out"

    def limit_file_size():  # the nearest to a full disk that needs no rights
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    full = subprocess.run(
        _command(image_folder, output),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit_file_size,
    )
    assert full.returncode == exits.IO
    assert ".part: File too large; run the same command again to go on" in full.stderr
    assert not list(output.rglob("*.tar"))
    assert _make(image_folder, output, *SMALL_SHARDS) == 0
    assert _digests(output) == expected


def test_too_little_space_is_told_before_anything_is_written(
    image_folder, tmp_path, monkeypatch, capsys
):
    nearly_full = shutil._ntuple_diskusage(10**12, 10**12 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: nearly_full)
    assert _make(image_folder, tmp_path / "out") == exits.IO
    assert "MB more, and 0.0 MB are free" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.tar"))


def test_damaged_state_is_made_again(image_folder, expected, tmp_path):
    output = tmp_path / "out"
    _run_until_event(25, image_folder, output)
    pieces = list((output / "val" / STATE_FOLDER).glob("*.arrow"))
    assert pieces
    pieces[0].write_bytes(b"nonsense")
    assert _make(image_folder, output, *SMALL_SHARDS) == 0
    assert _digests(output) == expected


# --- refusals ---------------------------------------------------------------------------------


def test_second_run_on_one_output_is_refused(image_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 0)
    state = tmp_path / "out" / "train" / STATE_FOLDER
    state.mkdir(parents=True)
    with claimed(state, WHOLE, lambda: None):
        assert _make(image_folder, tmp_path / "out") == exits.OUTPUT
    assert "another process is writing shards here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [(("--order", "kept"), "other options"), (("--quality", "50"), "other options")],
)
def test_other_options_on_a_finished_output_are_refused(
    image_folder, shards, capsys, options, reason
):
    assert _make(image_folder, shards, *SMALL_SHARDS, *options) == exits.OUTPUT
    assert f"holds shards made from {reason}" in capsys.readouterr().err


def test_changed_source_on_a_finished_output_is_refused(image_folder, tmp_path, capsys):
    source = shutil.copytree(image_folder, tmp_path / "source")
    assert _make(source, tmp_path / "out") == 0
    next(source.glob("train/*/*")).unlink()
    assert _make(source, tmp_path / "out") == exits.OUTPUT
    assert "holds shards made from another input" in capsys.readouterr().err


def test_folder_with_other_files_is_refused(image_folder, tmp_path, capsys):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "thesis.txt").touch()
    assert _make(image_folder, tmp_path) == exits.OUTPUT
    assert "is not empty, and there is no conversion in it" in capsys.readouterr().err


def test_output_inside_the_source_is_refused(image_folder, capsys):
    assert _make(image_folder, image_folder / "shards") == exits.OUTPUT
    assert "lies inside the source, which is not to be changed" in capsys.readouterr().err


@pytest.mark.parametrize(("missing", "there"), [("train", "val"), ("val", "train")])
def test_missing_split_is_named_with_a_way_out(image_folder, tmp_path, capsys, missing, there):
    source = shutil.copytree(image_folder, tmp_path / "source")
    shutil.rmtree(source / missing)
    assert _make(source, tmp_path / "out") == exits.BAD_INPUT
    assert f"--split {there}" in capsys.readouterr().err
    assert _make(source, tmp_path / "out", "--split", there) == 0


def test_labels_of_val_are_those_of_train(image_folder, tmp_path, capsys):
    source = shutil.copytree(image_folder, tmp_path / "source")
    shutil.rmtree(sorted((source / "val").iterdir())[0])
    assert _make(source, tmp_path / "out") == exits.BAD_INPUT
    assert "  val/n01440764: missing class: the training split has it" in capsys.readouterr().err
    assert _make(source, tmp_path / "out", "--on-error", "skip") == 0
    val = open_source(tmp_path / "out" / "val")
    assert val.classes == open_source(tmp_path / "out" / "train").classes
    assert min(s.label for s in val.read_many(range(len(val)))) == 1


# --- the rest of the command line -------------------------------------------------------------


def test_dry_run_says_what_would_be_and_writes_nothing(image_folder, shards, tmp_path, capsys):
    output = tmp_path / "out"
    assert _make(image_folder, output, *SMALL_SHARDS, "--dry-run", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert not output.exists()
    for planned in report["splits"]:
        manifest = json.loads((shards / planned["split"] / "manifest.json").read_bytes())
        assert planned["state"] == "planned"
        assert planned["images"] == manifest["samples"]
        assert planned["shards"] == len(manifest["shards"])
        assert planned["bytes"] == manifest["bytes"]


@pytest.mark.parametrize("options", [("--resize", "40"), ("--quality", "30"), ("--metadata",)])
def test_dry_run_estimates_what_will_be_written(image_folder, tmp_path, capsys, options):
    sizes = []
    for more in (("--dry-run",), ()):
        assert _make(image_folder, tmp_path / "out", *options, *more, "--json") == 0
        report = json.loads(capsys.readouterr().out)
        sizes.append(sum(split["bytes"] for split in report["splits"]))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


@pytest.mark.parametrize("options", [("--resize", "200"), ("--quality", "50"), ("--normalize",)])
def test_dry_run_estimates_from_images_that_are_no_pattern(tmp_path, capsys, options):
    folder = tmp_path / "in" / "train" / "only"
    folder.mkdir(parents=True)
    large, small = (np.random.default_rng(0).bytes(3 * side * side) for side in (96, 16))
    for number in range(400):
        pixels = small if number % 2 else large
        side = 16 if number % 2 else 96
        Image.frombytes("RGB", (side, side), pixels).save(folder / f"{number:03}.png")
    sizes = []
    for more in (("--dry-run",), ()):
        split = ("--split", "train", "--json", *more)
        assert _make(tmp_path / "in", tmp_path / "out", *options, *split) == 0
        sizes.append(json.loads(capsys.readouterr().out)["splits"][0]["bytes"])
    # A mean of 200 of the 400, which differ so much, has a standard deviation of 4 %.
    assert sizes[0] == pytest.approx(sizes[1], rel=0.12)


def test_dry_run_refuses_what_a_run_would(image_folder, shards, expected, tmp_path, capsys):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "thesis.txt").touch()
    assert _make(image_folder, tmp_path, "--dry-run") == exits.OUTPUT
    assert "is not empty, and there is no conversion in it" in capsys.readouterr().err
    assert _make(image_folder, shards, *SMALL_SHARDS, "--verify", "--dry-run") == exits.OUTPUT
    _run_until_event(20, image_folder, tmp_path / "begun")
    begun = _digests(tmp_path / "begun")
    for options, code in (((), exits.OUTPUT), (SMALL_SHARDS, 0)):
        split = ("--split", "val", "--dry-run")
        assert _make(image_folder, tmp_path / "begun", *options, *split) == code
    assert (_digests(tmp_path / "begun"), _digests(shards)) == (begun, expected)


def test_finished_output_without_some_images_is_no_success_if_all_are_wanted(
    image_folder, tmp_path, capsys
):
    source = shutil.copytree(image_folder, tmp_path / "in")
    bad = next(source.glob("train/*/*"))
    bad.write_bytes(bad.read_bytes()[:-50])
    assert _make(source, tmp_path / "out", "--on-error", "skip") == 0
    capsys.readouterr()
    assert _make(source, tmp_path / "out") == exits.BAD_INPUT
    assert f"{bad.relative_to(source)}: cut off" in capsys.readouterr().err


def test_progress_counts_what_is_there_already_as_done_but_not_as_fast(capsys, monkeypatch):
    clock = iter([0.0, 0.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0])
    monkeypatch.setattr("tools.cli.progress.time.monotonic", lambda: next(clock))
    progress = ImageProgress("train", 1000, 10_000_000)
    progress.resume(500, 5_000_000)
    progress.advance(100, 1_000_000)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "train: 600 of 1,000 images, 1 images/s, 0 MB/s, 400 s left"


def test_json_report_is_all_that_is_on_standard_output(image_folder, tmp_path, capsys):
    assert _make(image_folder, tmp_path / "out", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == 0
    assert [(s["split"], s["images"], s["classes"]) for s in report["splits"]] == [
        ("train", 62, 5),
        ("val", 22, 5),
    ]


def test_default_output_is_named_after_the_source(image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(image_folder)]) == 0
    assert len(open_source("shards/imagenet/train")) == 62
    assert len(open_source("shards/imagenet/val")) == 22


def test_tool_does_not_import_torch():
    program = "import sys, tools.make_shards; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("text", ["0", "12XB", "MB", ""])
def test_sizes_that_are_none_are_refused(image_folder, text, capsys):
    with pytest.raises(SystemExit):
        main([str(image_folder), "--shard-size", text])
    assert "a size is a number with a unit" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_finished_output_without_a_shard_is_not_called_complete(
    image_folder, shards, tmp_path, capsys, damage
):
    output = shutil.copytree(shards, tmp_path / "out")
    path = output / "train" / "train-000002.tar"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-512])
    assert _make(image_folder, output, *SMALL_SHARDS) == exits.OUTPUT
    assert "train-000002.tar: is missing, or has not the" in capsys.readouterr().err


def test_a_finished_folder_is_said_to_be_already_complete(image_folder, shards, tmp_path, capsys):
    output = shutil.copytree(shards, tmp_path / "out")
    assert _make(image_folder, output, *SMALL_SHARDS) == exits.COMPLETE
    assert capsys.readouterr().out.count(": already complete: ") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--quality", "200"), "expected a quality in 1..100, got '200'"),
        (("--compress-probability", "2"), "expected a number from 0 to 1, got '2'"),
        (("--max-resolution", "-5"), "expected a whole number above 0, got '-5'"),
        (("--write-mode", "raw"), "--write-mode has no effect without --format ffcv"),
        (("--format", "ffcv", "--shard-samples", "9"), "--shard-samples has no effect without"),
    ],
)
def test_options_are_refused_before_anything_is_listed(tmp_path, capsys, options, message):
    """The source is not there, which would be told first otherwise."""
    try:
        code = _make(tmp_path / "nowhere", tmp_path / "out", *options)
    except SystemExit as stopped:
        code = stopped.code
    assert code == exits.BAD_INPUT
    assert message in capsys.readouterr().err


def test_an_output_that_is_no_folder_is_refused_by_its_option(image_folder, tmp_path, capsys):
    file = tmp_path / "notes.txt"
    file.write_bytes(b"mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train").write_bytes(b"mine")
    for output in (file, file / "deeper", tmp_path / "out", tmp_path / ("long" * 100)):
        assert _make(image_folder, output) == exits.OUTPUT
        assert "name another --output" in capsys.readouterr().err
    assert file.read_bytes() == b"mine"
