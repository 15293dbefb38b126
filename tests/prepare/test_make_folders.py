"""make_folders goes on with what an earlier run left, as far as that is right."""

from pipeline.prepare.layouts.find import find_layout
from pipeline.prepare.writers.folder_writer import write_class_folders
from pipeline.storage.retry import Retry
from tests.support.storage_servers import http_server
from tools.cli import exits
from tools.make_folders import main


def test_a_file_that_a_power_cut_left_as_zeros_is_written_again(image_folder, tmp_path):
    images = sorted((image_folder / "val").glob("*/*"))
    unfinished = tmp_path / "val.part"
    for image, content in ((images[0], images[0].read_bytes()), (images[1], None)):
        (unfinished / image.parent.name).mkdir(parents=True, exist_ok=True)
        left = unfinished / image.parent.name / f"{image.stem}.jpg"
        left.write_bytes(content or bytes(image.stat().st_size))
    right = unfinished / images[0].parent.name / f"{images[0].stem}.jpg"
    written = right.stat().st_mtime_ns
    scan = find_layout(image_folder).splits["val"]()
    write_class_folders(scan, tmp_path / "val", lambda images, size_bytes: None)
    for image in images:
        made = tmp_path / "val" / image.parent.name / f"{image.stem}.jpg"
        assert made.read_bytes() == image.read_bytes()
    kept = tmp_path / "val" / images[0].parent.name / right.name
    assert kept.stat().st_mtime_ns == written


def test_a_server_that_fails_is_named_and_a_rerun_goes_on(
    image_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(Retry, "waits", lambda self: iter((0.001,) * 3))
    last = max((image_folder / "val").glob("*/*"))
    with http_server(image_folder) as (url, faults):
        arguments = [url, "--output", str(tmp_path), "--split", "val"]
        faults.fail = last.name
        assert main(arguments) == exits.IO
        error = capsys.readouterr().err
        assert f"{last.name}: ClientResponseError: 503" in error
        assert "run the same command again to go on" in error
        faults.fail = None
        assert main(arguments) == 0
    assert len(list((tmp_path / "val").glob("*/*"))) == 22
