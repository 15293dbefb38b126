"""make_digits writes its own folder, goes on with it, and touches no other."""

import pytest

from tools import make_digits
from tools.cli import exits


@pytest.mark.parametrize(
    "name",
    ["train/cat", "val/3/photo.jpg", "train/0/digit_0000.png", "notes.txt", "train", "val/3"],
)
def test_a_folder_that_holds_something_else_is_left_as_it_is(tmp_path, capsys, name):
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"theirs")
    assert make_digits.main([str(tmp_path / "data")]) == exits.OUTPUT
    error = capsys.readouterr().err
    assert f"such as {path}; name a new folder as FOLDER" in error or "is a file" in error
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert path.read_bytes() == b"theirs"


def test_a_folder_that_was_begun_is_not_refused(tmp_path):
    for name in ("train/0/digit_0000.jpg", "train/1/digit_0001.jpg.123.part", "train.token_labels"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    make_digits.refuse_other_content(tmp_path)
    make_digits.refuse_other_content(tmp_path / "new")
