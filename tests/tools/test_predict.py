"""`tools/predict.py`: the same answers as by plain PIL and timm; bad images are named."""

import csv
import http.server
import json
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform

from tests.support.pictures import CLASSES
from tests.support.trained_models import NAME, small_model, write_run
from tools import predict

ROOT = Path(__file__).parents[2]
WORDS = "tench, Tinca tinca"
"""WordNet's, of n01440764."""


@pytest.fixture(scope="module")
def run(tmp_path_factory, image_folder):
    return write_run(tmp_path_factory.mktemp("predict"), image_folder)


@pytest.fixture(scope="module")
def model():
    return small_model(seed=102)


def answers(capsys, *arguments, code=0) -> list[dict]:
    assert predict.main([*map(str, arguments), "--json"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def probabilities(model, paths) -> torch.Tensor:
    transform = create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.no_grad():
        images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
        return model(images).softmax(1)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    """The URL at which the files of `folder` are read."""
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_answers_are_those_of_plain_pil_and_timm(run, model, image_folder, capsys):
    found = answers(capsys, run, image_folder / "val", "--batch-size", 7)
    paths = sorted(str(path) for path in (image_folder / "val").rglob("*.JPEG"))
    assert [answer["image"] for answer in found] == paths
    for answer, expected in zip(found, probabilities(model, paths), strict=True):
        order = expected.argsort(descending=True)
        assert [guess["class"] for guess in answer["top"]] == [CLASSES[i] for i in order]
        told = [guess["probability"] for guess in answer["top"]]
        np.testing.assert_allclose(told, expected[order], atol=1e-5)


def test_classes_have_their_words(run, image_folder, capsys):
    image = next((image_folder / "val").rglob("*.JPEG"))
    (answer,) = answers(capsys, run, image)
    words = {guess["class"]: guess["words"] for guess in answer["top"]}
    assert words["n01440764"] == WORDS
    assert predict.main([str(run), str(image)]) == 0
    assert f"% {WORDS} (n01440764)" in capsys.readouterr().out


def test_top_says_how_many(run, image_folder, capsys):
    found = answers(capsys, run, image_folder / "val" / CLASSES[0], "--top", 2)
    assert {len(answer["top"]) for answer in found} == {2}


def test_more_classes_than_there_are_is_said(run, image_folder, capsys):
    image = next((image_folder / "val").rglob("*.JPEG"))
    for options, note in (((), ""), (("--top", 5), ""), (("--top", 6), "--top 6: the model has 5")):
        assert predict.main([str(run), str(image), *map(str, options)]) == 0
        captured = capsys.readouterr()
        assert captured.out.count("%") == 5
        assert captured.err.startswith(note)
        assert ("--top" in captured.err) == bool(note)


def test_globs_folders_and_files_go_together(run, image_folder, capsys):
    folder = image_folder / "val" / CLASSES[0]
    single = next((image_folder / "val" / CLASSES[1]).iterdir())
    found = answers(capsys, run, f"{image_folder}/val/{CLASSES[2]}/*.JPEG", folder, single)
    assert len(found) == 5 + 4 + 1


def test_an_image_at_a_url_is_read(run, image_folder, capsys):
    image = next((image_folder / "val" / CLASSES[0]).iterdir())
    with served(image_folder) as root:
        url = f"{root}/{image.relative_to(image_folder)}"
        remote, local = (answers(capsys, run, place)[0] for place in (url, image))
    assert remote["top"] == local["top"]


def test_what_is_wrong_is_told_once_and_in_words(run, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("no image")
    with served(tmp_path) as root:
        places = [f"{root}/none.jpg", f"{root}/text.jpg", str(tmp_path / "text.jpg"), "x://y/z.jpg"]
        assert predict.main([str(run), *places]) == 2
    no_format = "cannot be read as an image: it is of no format that is known"
    told = ("cannot be read: No such file or directory", no_format, no_format, "unknown scheme")
    for line, place, reason in zip(
        capsys.readouterr().err.splitlines(), places, told, strict=False
    ):
        assert line.startswith(f"{place}: {reason}")
        assert line.count(place) == 1


def test_an_image_of_16_bits_is_its_upper_8(run, image_folder, tmp_path, capsys):
    with Image.open(next((image_folder / "val").rglob("*.JPEG"))) as image:
        gray = np.asarray(image.convert("L"))
    Image.fromarray(gray).save(tmp_path / "plain.png")
    Image.fromarray(gray.astype(np.uint16) << 8 | 0xAB).save(tmp_path / "deep.png")
    deep, plain = answers(capsys, run, tmp_path)
    assert deep["top"] == plain["top"]


def test_bad_images_are_named_and_the_rest_is_done(run, image_folder, tmp_path, capsys):
    image = next((image_folder / "val").rglob("*.JPEG"))
    shutil.copy(image, tmp_path / "a_good.jpg")
    (tmp_path / "b_text.jpg").write_text("no image")
    (tmp_path / "c_cut.jpg").write_bytes(image.read_bytes()[:-600])
    shutil.copy(image, tmp_path / "d_good.jpg")
    found = answers(capsys, run, tmp_path, code=2)
    assert ["error" in answer for answer in found] == [False, True, True, False]
    assert found[0]["top"] == found[3]["top"]
    assert predict.main([str(run), str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "b_text.jpg: cannot be read as an image" in error
    assert "2 of 4 images could not be read" in error


def test_the_table_has_a_line_for_each_image(run, image_folder, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_text("no image")
    table = tmp_path / "answers.csv"
    folder = image_folder / "val" / CLASSES[1]
    found = answers(capsys, run, folder, tmp_path / "bad.jpg", "--csv", table, "--top", 2, code=2)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["image"] for row in rows] == [answer["image"] for answer in found]
    assert rows[0]["class_2"] == found[0]["top"][1]["class"]
    assert rows[-1]["error"]
    assert rows[-1]["class_1"] == ""


def test_embeddings_are_what_the_classifier_sees(run, model, image_folder, tmp_path, capsys):
    folder = image_folder / "val" / CLASSES[3]
    (tmp_path / "bad.png").write_text("no image")
    file = tmp_path / "x.npz"
    answers(capsys, run, folder, tmp_path / "bad.png", "--embeddings", file, code=2)
    stored = np.load(file)
    paths = stored["images"].tolist()
    assert sorted(paths) == sorted(str(path) for path in folder.iterdir())
    logits = torch.from_numpy(stored["embeddings"]) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(logits.softmax(1), probabilities(model, paths), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["RUN", "nowhere.jpg"], "nowhere.jpg: there is no such file or folder"),
        (["RUN", "tools"], "there are no images in it"),
        (["RUN", "VAL", "--embeddings", "x.csv"], "name it .npz"),
        (["RUN", "VAL", "--csv", "x.json"], "name it .csv"),
        (["nowhere/run", "VAL"], "no such file or folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_told_in_words_and_before_torch(arguments, expected, run, image_folder):
    places = {"RUN": str(run), "VAL": str(image_folder / "val")}
    script = "import sys; from tools import predict; code = predict.main(sys.argv[1:]);"
    script += "assert 'torch' not in sys.modules; sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", script, *(places.get(word, word) for word in arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr


def test_a_misspelt_name_is_told(capsys, image_folder):
    assert predict.main([f"{NAME}o", str(image_folder / "val")]) == 2
    assert "did you mean 'dynamixer_nano'" in capsys.readouterr().err


def test_a_name_without_published_weights_is_told(capsys, image_folder):
    assert predict.main([NAME, str(image_folder / "val")]) == 2
    assert f"--model {NAME}" in capsys.readouterr().err
