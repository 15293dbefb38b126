"""Files as they occur in the wild: each is kept, converted or refused, and never in silence."""

import io
import json
import os
import shutil
import tarfile
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.errors import UnusableImageError, UnusableInputError
from pipeline.formats.class_folders import scan_class_folders
from pipeline.formats.open import open_source
from pipeline.images.header import read_header
from pipeline.images.recode import ImageConfig, RecodeConfig, prepare_image
from pipeline.images.usable import MAX_PIXELS, ODDITY_TEXTS, Oddity, check_usable
from pipeline.prepare.conversion.conversion import Conversion
from pipeline.prepare.conversion.run import convert
from pipeline.prepare.writers.job import QUARANTINE_FOLDER
from tests.support.pictures import decode, encode_jpeg
from tools.check_data import main as check_data
from tools.cli import exits
from tools.make_shards import main

NORMALIZE = ImageConfig(recode=RecodeConfig(normalize=True))


def _encode(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def picture(photographs):
    return photographs[0][60:180, 150:310]


def _with_orientation(picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _encode(Image.fromarray(picture), "JPEG", quality=95, exif=exif)


def _as_ycck(cmyk):
    """Have an Adobe CMYK JPEG say that it is YCCK: other colours, but a valid file."""
    at = cmyk.index(b"Adobe") + 11
    assert cmyk[at] == 0
    return cmyk[:at] + b"\x02" + cmyk[at + 1 :]


@pytest.fixture(scope="module")
def unusual_files(picture):
    """Name -> bytes, notes. All of them can be used."""
    rgb = Image.fromarray(picture)
    gray = rgb.convert("L")
    cmyk = encode_jpeg(np.asarray(rgb.convert("CMYK")), subsampling=0)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    alpha = rgb.convert("RGBA")
    alpha.putalpha(gray)
    frames = {"save_all": True, "append_images": [gray.convert("RGB")]}
    not_jpeg = Oddity.NOT_JPEG
    return {
        "plain.jpg": (encode_jpeg(picture), Oddity(0)),
        "progressive.JPEG": (encode_jpeg(picture, progressive=True), Oddity(0)),
        "gray.jpg": (encode_jpeg(np.asarray(gray)), Oddity.GRAYSCALE),
        "cmyk.jpg": (cmyk, Oddity.CMYK),
        "ycck.jpg": (_as_ycck(cmyk), Oddity.CMYK),
        "png_named.JPEG": (_encode(rgb, "PNG"), not_jpeg | Oddity.MISNAMED),
        "jpeg_named.png": (encode_jpeg(picture), Oddity.MISNAMED),
        "true.png": (_encode(rgb, "PNG"), not_jpeg),
        "palette.png": (_encode(rgb.quantize(16), "PNG"), not_jpeg),
        "alpha.png": (_encode(alpha, "PNG"), not_jpeg | Oddity.ALPHA),
        "16bit.png": (_encode(deep, "PNG"), not_jpeg | Oddity.DEEP | Oddity.GRAYSCALE),
        "animated.png": (_encode(rgb, "PNG", **frames), not_jpeg | Oddity.ANIMATED),
        "moving.webp": (
            _encode(rgb, "WEBP", **frames),
            not_jpeg | Oddity.ANIMATED | Oddity.ALPHA,
        ),
        "lossless.webp": (_encode(rgb, "WEBP", lossless=True), not_jpeg),
        "windows.bmp": (_encode(rgb, "BMP"), not_jpeg),
        "pages.tif": (_encode(rgb, "TIFF", **frames), not_jpeg | Oddity.ANIMATED),
        "portable.ppm": (_encode(rgb, "PPM"), not_jpeg),
        "upright.jpg": (_with_orientation(picture, 1), Oddity(0)),
        "turned.jpg": (_with_orientation(picture, 6), Oddity.ROTATED),
        "mirrored.jpg": (_with_orientation(picture, 2), Oddity.ROTATED),
        "one pixel.jpg": (encode_jpeg(picture[:1, :1]), Oddity.TINY),
        "20000 wide.jpg": (encode_jpeg(np.zeros((9, 20_000, 3), np.uint8)), Oddity(0)),
        "Grüße 世界.v2.jpg": (encode_jpeg(picture[:50]), Oddity(0)),
        "after the end.jpg": (encode_jpeg(picture) + b"trailing bytes", Oddity(0)),
    }


@pytest.fixture(scope="module")
def unusable_files(picture):
    """Name -> bytes, kind of problem."""
    jpeg, png = encode_jpeg(picture), _encode(Image.fromarray(picture), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        bomb = _encode(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    return {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "cut off"),
        "truncated by a byte.jpg": (jpeg[:-1], "cut off"),
        "header only.jpg": (jpeg[:20], "not an image"),
        "cut.png": (png[: len(png) // 2], "cut off"),
        "page.jpg": (b"\n<!DOCTYPE html><html>404 Not Found</html>", "not an image"),
        "zeros.jpg": (bytes(3000), "not an image"),
        "text.png": (b"hello", "not an image"),
        "bomb.png": (bomb, "too many pixels"),
        "movie.gif": (_encode(Image.fromarray(picture), "GIF"), "format that loaders do not know"),
        "arithmetic.jpg": (jpeg.replace(b"\xff\xc0\x00\x11", b"\xff\xcb\x00\x11"), "cannot be"),
    }


@pytest.fixture
def hostile_folder(image_folder, tmp_path, unusual_files, unusable_files):
    """The image folder with all of it in one class of train/, and more of it elsewhere."""
    root = shutil.copytree(image_folder, tmp_path / "hostile")
    folder = root / "train" / "n02084071"
    for name, (data, _) in {**unusual_files, **unusable_files}.items():
        (folder / name).write_bytes(data)
    (folder / "empty.jpg").touch()
    (folder / "dangling.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "inner").mkdir()
    (folder / "inner" / "nested.jpg").write_bytes(unusual_files["plain.jpg"][0])
    (folder / "inner" / "circle").symlink_to(folder)
    (folder / "plain.png").write_bytes(unusual_files["true.png"][0])
    (folder / "linked.jpg").symlink_to("plain.jpg")
    (root / "train" / "n09000000").mkdir()
    (root / "train" / ".DS_Store").touch()
    (folder / ".DS_Store").touch()
    (folder / "Thumbs.db").touch()
    (root / "val" / "n01440764" / "page.jpg").write_text("<html>")
    return root


EXPECTED_OF_NAMES = {
    "n02084071/empty.jpg": "empty file",
    "n02084071/dangling.jpg": "unreadable file",
    "n02084071/pipe.jpg": "not a file",
    "n02084071/inner/circle": "circular link",
    "n02084071/plain.png": "same key",
    "n09000000": "empty class",
}


def _make(source, output, *options):
    return main([str(source), "--output", str(output), "--shard-samples", "10", *options])


def _manifest(output, split="train"):
    return json.loads((output / split / "manifest.json").read_bytes())


# --- one image --------------------------------------------------------------------------------


def test_headers_are_what_pil_says(unusual_files):
    for name, (data, _) in unusual_files.items():
        header = read_header(data)
        with Image.open(io.BytesIO(data)) as image:
            assert (header.format, header.width, header.height) == (image.format, *image.size), name
            assert header.is_animated == (getattr(image, "n_frames", 1) > 1), name
            assert header.orientation == image.getexif().get(0x0112, 1), name


def test_unusual_images_are_noted_and_kept_as_they_are(unusual_files):
    for name, (data, notes) in unusual_files.items():
        taken = prepare_image(data, name, ImageConfig(verify=True))
        assert taken.data == data
        assert taken.notes == notes, name


def test_unusable_images_are_refused_with_the_reason(unusable_files):
    for name, (data, kind) in unusable_files.items():
        with pytest.raises(UnusableImageError) as refusal:
            prepare_image(data, name, ImageConfig())
        assert refusal.value.kind.startswith(kind), name


def test_normalized_images_are_plain_jpegs_with_the_same_pixels(unusual_files):
    for name, (data, notes) in unusual_files.items():
        taken = prepare_image(data, name, NORMALIZE)
        if not notes & ~(Oddity.MISNAMED | Oddity.TINY):
            assert taken.data == data, name
            continue
        with Image.open(io.BytesIO(taken.data)) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB"), name
            assert taken.header[:3] == ("JPEG", *image.size), name
            pixels = np.asarray(image).astype(int)
        assert taken.notes == notes | Oddity.CONVERTED, name
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith("I"):  # PIL would clip 16 bits to white
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # noqa: PLW2901
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
        # JPEG at quality 95; a palette's dithering is the hardest to encode.
        assert abs(pixels - expected).mean() < (6 if name == "palette.png" else 2.5), name


def test_animation_of_a_format_that_loaders_do_not_know_becomes_its_first_frame(unusable_files):
    taken = prepare_image(unusable_files["movie.gif"][0], "movie.gif", NORMALIZE)
    assert taken.header.format == "JPEG"


def test_verify_finds_what_only_decoding_shows(picture):
    png = bytearray(_encode(Image.fromarray(picture), "PNG"))
    png[len(png) // 2] ^= 0xFF
    jpeg = bytearray(encode_jpeg(picture))
    tables = jpeg.index(b"\xff\xc4")
    jpeg[tables + 5 : tables + 21] = b"\xff" * 16  # Huffman codes that cannot be
    for data, name in ((bytes(png), "a.png"), (bytes(jpeg), "a.jpg")):
        assert prepare_image(data, name, ImageConfig()).data == data
        with pytest.raises(UnusableImageError) as refusal:
            prepare_image(data, name, ImageConfig(verify=True))
        assert refusal.value.kind in ("cannot be decoded", "damaged")


@pytest.mark.parametrize("damage", ["bits", "zeros", "half"])
def test_verify_finds_a_jpeg_that_decoders_finish_in_silence(photographs, damage):
    data = bytearray(encode_jpeg(photographs[0]))
    middle = len(data) // 2
    if damage == "bits":
        data[middle : middle + 8] = bytes(255 - byte & 0x7F for byte in data[middle : middle + 8])
    elif damage == "zeros":
        data[middle:-2] = bytes(len(data) - middle - 2)
    else:
        data[middle:-2] = b""
    assert decode(bytes(data)).shape == photographs[0].shape
    with pytest.raises(UnusableImageError) as refusal:
        prepare_image(bytes(data), "a.jpg", ImageConfig(verify=True))
    assert refusal.value.kind == "damaged"


def test_exif_orientation_is_found_before_and_behind_xmp(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    data = encode_jpeg(picture, exif=exif)
    segment = b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp
    first = data.index(b"\xff\xe1")
    behind = first + 2 + int.from_bytes(data[first + 2 : first + 4], "big")
    for place in (first, behind):
        assert read_header(data[:place] + segment + data[place:]).orientation == 6


def test_images_are_named_by_what_they_are_if_their_names_do_not_say(image_folder, tmp_path):
    folder = tmp_path / "in"
    files = sorted((image_folder / "train").glob("*/*"))[:3]
    names = ("noext", "scan.cls", "page.json")
    folder.mkdir()
    for file, name in zip(files, names, strict=True):
        shutil.copyfile(file, folder / name)
    lines = "".join(f"{name},fish\n" for name in names)
    (folder / "train.csv").write_text(f"path,label\n{lines}")
    output = tmp_path / "out"
    assert main([str(folder), "--output", str(output), "--split", "train"]) == 0
    with tarfile.open(output / "train" / "train-000000.tar") as tar:
        extensions = sorted(name.partition(".")[2] for name in tar.getnames())
    assert extensions == ["cls"] * 3 + ["i4"] * 3 + ["jpg"] * 3
    assert check_data([str(output)]) == 0


def test_normalized_shards_have_one_extension(hostile_folder, tmp_path):
    assert _make(hostile_folder, tmp_path / "out", "--on-error", "skip", "--normalize") == 0
    for path in (tmp_path / "out").glob("train/*.tar"):
        with tarfile.open(path) as tar:
            assert {name.rpartition(".")[2] for name in tar.getnames()} == {"jpg", "cls", "i4"}


# --- links ------------------------------------------------------------------------------------


def test_a_link_to_itself_takes_no_image_with_it(image_folder, tmp_path):
    source = shutil.copytree(image_folder, tmp_path / "in")
    folders = sorted((source / "train").iterdir())
    (folders[0] / "loop").symlink_to("loop")
    (source / "train" / "circle").symlink_to("circle")
    scan = scan_class_folders(source / "train")
    assert len(scan) == 62
    assert {(p.kind, p.where) for p in scan.problems} == {
        ("broken link", f"{folders[0].name}/loop"),
        ("broken link", "circle"),
    }


def test_what_lies_between_the_classes_is_reported(image_folder, tmp_path):
    source = shutil.copytree(image_folder, tmp_path / "in")
    (source / "train" / "n09999999").symlink_to(tmp_path / "unmounted")
    shutil.copyfile(next(source.glob("train/*/*")), source / "train" / "loose.jpg")
    (source / "train" / "labels.txt").touch()
    scan = scan_class_folders(source / "train")
    assert {(p.kind, p.where) for p in scan.problems} == {
        ("broken link", "n09999999"),
        ("loose image", "loose.jpg"),
    }
    assert scan.ignored == {".txt": 1}


@pytest.mark.parametrize(("width", "height"), [(20_000, 1_000), (65_500, 2_700)])
def test_large_is_no_bomb_below_the_limit(width, height):
    header = read_header(encode_jpeg(np.zeros((16, 16), np.uint8)))
    complete = b"\xff\xd9"
    header = header._replace(width=width, height=height)
    assert width * height <= MAX_PIXELS
    check_usable(header, complete, must_load=True, decode=False)
    with pytest.raises(UnusableImageError, match="decompression bomb"):
        check_usable(header._replace(height=10 * height), complete, must_load=True, decode=False)


# --- re-encoding ------------------------------------------------------------------------------


@pytest.mark.parametrize("short_side", [40, 64, 119])
def test_resized_images_are_pils_antialiased_ones(photographs, short_side):
    for photograph in photographs[:3]:
        data = encode_jpeg(photograph, quality=95, subsampling=0)
        recode = RecodeConfig(resize=short_side, quality=100)
        taken = prepare_image(data, "a.jpg", ImageConfig(recode=recode))
        assert min(taken.header.width, taken.header.height) == short_side
        with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(taken.data)) as made:
            size = (taken.header.width, taken.header.height)
            expected = image.resize(size, Image.Resampling.BILINEAR)
            ratio = image.width / image.height
            assert abs(size[0] / size[1] - ratio) < 0.02 * ratio
            difference = np.subtract(made.convert("L"), expected.convert("L"), dtype=int)
        # Only the encoder is between them: quality 100, but chroma at half the resolution.
        assert abs(difference).mean() < 1.5


def test_small_images_are_not_enlarged(picture):
    recode = RecodeConfig(resize=500, quality=90)
    taken = prepare_image(encode_jpeg(picture, quality=98), "a.jpg", ImageConfig(recode=recode))
    assert (taken.header.height, taken.header.width) == picture.shape[:2]


def test_image_that_would_only_become_larger_keeps_its_bytes(picture):
    data = encode_jpeg(picture, quality=30)
    taken = prepare_image(data, "a.jpg", ImageConfig(recode=RecodeConfig(quality=95)))
    assert taken.data == data
    gray = encode_jpeg(picture[..., 0], quality=30)
    taken = prepare_image(gray, "a.jpg", ImageConfig(recode=RecodeConfig(quality=95)))
    assert taken.header.channels == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quality": 101}, "quality must be in 1..100"),
        ({"resize": -1, "quality": 90}, "resize must be"),
        ({"resize": 100}, "say with which quality"),
    ],
)
def test_impossible_recoding_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RecodeConfig(**options)


# --- a whole folder ---------------------------------------------------------------------------


def test_all_offenders_of_all_splits_are_listed(hostile_folder, unusable_files, tmp_path, capsys):
    assert _make(hostile_folder, tmp_path / "out", "--json") == exits.BAD_INPUT
    problems = json.loads(capsys.readouterr().out)["problems"]
    found = {(p["split"], p["where"]): p["kind"] for p in problems}
    expected = {("train", where): kind for where, kind in EXPECTED_OF_NAMES.items()}
    expected |= {("train", f"n02084071/{name}"): kind for name, (_, kind) in unusable_files.items()}
    expected |= {
        ("val", "n01440764/page.jpg"): "not an image",
        ("val", "n09000000"): "missing class",
    }
    assert found.keys() == expected.keys()
    assert all(found[place].startswith(expected[place]) for place in found)
    assert not list((tmp_path / "out").rglob("index.arrow"))


@pytest.mark.parametrize("policy", ["skip", "quarantine"])
def test_rest_is_stored_and_the_manifest_says_what_was_left_out(
    hostile_folder, unusual_files, unusable_files, tmp_path, policy
):
    output = tmp_path / "out"
    assert _make(hostile_folder, output, "--on-error", policy) == 0
    manifest = _manifest(output)
    left_out = {item["where"]: item["kind"] for item in manifest["left_out"]}
    assert left_out.keys() == EXPECTED_OF_NAMES.keys() | {
        f"n02084071/{name}" for name in unusable_files
    }
    assert manifest["ignored"] == {".DS_Store": 2, ".db": 1}
    source = open_source(output / "train")
    stored = {bytes(s.data) for s in source.read_many(range(len(source)))}
    assert {data for data, _ in unusual_files.values()} <= stored
    assert len(source) == 62 + len(unusual_files) + len(["nested", "linked"])
    aside = {p.read_bytes() for p in (output / "train").glob(f"{QUARANTINE_FOLDER}/*/*")}
    wanted = {data for data, _ in unusable_files.values()} if policy == "quarantine" else set()
    assert aside == wanted


def test_unusual_images_are_in_manifest_and_report(hostile_folder, unusual_files, tmp_path):
    for options, action in (((), "kept"), (("--normalize",), "converted")):
        output = tmp_path / action
        assert _make(hostile_folder, output, "--on-error", "skip", *options) == 0
        found = {(u["what"], u["action"]): u for u in _manifest(output)["unusual"]}
        cmyk = found[ODDITY_TEXTS[Oddity.CMYK], action]
        assert cmyk["keys"] == ["n02084071/cmyk", "n02084071/ycck"]
        gray = sum(bool(notes & Oddity.GRAYSCALE) for _, notes in unusual_files.values())
        assert found[ODDITY_TEXTS[Oddity.GRAYSCALE], action]["images"] > gray
        report = (output / "train" / "report.tsv").read_text().splitlines()
        assert f"{action}\t{ODDITY_TEXTS[Oddity.CMYK]}\tn02084071/ycck\t" in report
        kinds = {line.split("\t")[0] for line in report[1:]}
        assert kinds <= {"left out", "kept", "converted"}
    source = open_source(tmp_path / "converted" / "train")
    headers = [read_header(bytes(s.data)) for s in source.read_many(range(len(source)))]
    assert {(h.format, h.channels, h.bits, h.orientation) for h in headers} == {("JPEG", 3, 8, 1)}


def test_run_that_skips_goes_on_with_what_the_failed_one_wrote(hostile_folder, tmp_path):
    output = tmp_path / "out"
    assert _make(hostile_folder, output) == exits.BAD_INPUT
    # The bad images are spread by the shuffle; a shard without any is done.
    written = {p: p.stat().st_mtime_ns for p in output.glob("val/*.tar")}
    assert written
    assert _make(hostile_folder, output, "--on-error", "skip") == 0
    assert {p: p.stat().st_mtime_ns for p in written} == written
    fresh = tmp_path / "fresh"
    assert _make(hostile_folder, fresh, "--on-error", "skip") == 0
    for path in fresh.rglob("*"):
        other = output / path.relative_to(fresh)
        assert path.is_dir() or path.read_bytes() == other.read_bytes()


def test_links_to_folders_are_followed(image_folder, tmp_path):
    subset = tmp_path / "subset" / "train"
    subset.mkdir(parents=True)
    for name in ("n01440764", "n02084071"):
        (subset / name).symlink_to(image_folder / "train" / name)
    linked = open_source(subset)
    assert linked.classes == ("n01440764", "n02084071")
    assert len(linked) == 14 + 12


def test_name_that_is_no_utf8_is_kept_and_read_back(image_folder, tmp_path):
    source = shutil.copytree(image_folder, tmp_path / "source")
    image = next((source / "val").glob("*/*"))
    image.rename(os.fsdecode(os.fsencode(image.parent) + b"/caf\xe9.jpg"))
    assert _make(source, tmp_path / "out", "--metadata") == 0
    samples = open_source(tmp_path / "out/val").read_many(range(22))
    assert f"{image.parent.name}/caf%E9" in [sample.key for sample in samples]


def test_file_that_changes_after_the_scan_is_not_stored(image_folder, tmp_path):
    source = shutil.copytree(image_folder, tmp_path / "source")
    conversion = Conversion(
        scan=scan_class_folders(source / "val"), folder=tmp_path / "out", split="val"
    )
    changed = next((source / "val").glob("*/*"))
    changed.write_bytes(changed.read_bytes() + b"more")
    with pytest.raises(UnusableInputError) as refusal:
        convert(conversion, lambda images, size_bytes: None)
    [problem] = refusal.value.problems
    assert problem.kind == "changed since the scan"
    assert problem.where == f"{changed.parent.name}/{changed.name}"


def test_split_without_a_usable_image_is_refused(tmp_path, image_folder, capsys):
    source = shutil.copytree(image_folder, tmp_path / "source")
    for image in (source / "val").glob("*/*"):
        image.write_text("<html>")
    assert _make(source, tmp_path / "out", "--on-error", "skip") == exits.BAD_INPUT
    assert "val: no image is left that can be used" in capsys.readouterr().err


def test_plain_jpegs_are_encoded_anew_from_the_pixels_that_pil_decodes(photographs):
    for photograph in photographs[:3]:
        data = encode_jpeg(photograph, quality=97)
        taken = prepare_image(data, "a.jpg", ImageConfig(recode=RecodeConfig(quality=85)))
        by_pil = encode_jpeg(decode(data), quality=85)
        assert len(taken.data) == pytest.approx(len(by_pil), rel=0.03)
        errors = [
            np.subtract(decode(d), decode(data), dtype=int).std() for d in (taken.data, by_pil)
        ]
        assert errors[0] == pytest.approx(errors[1], rel=0.03)
        assert taken.header[:3] == ("JPEG", photograph.shape[1], photograph.shape[0])


@pytest.mark.parametrize("target", ["..", "../..", "../../.."])
def test_a_link_to_where_the_images_lie_brings_no_other_class_in(image_folder, tmp_path, target):
    source = shutil.copytree(image_folder, tmp_path / "in")
    folder = sorted((source / "train").iterdir())[2]
    (folder / "loop").symlink_to(target)
    scan = scan_class_folders(source / "train")
    assert [(p.kind, p.where) for p in scan.problems] == [("circular link", f"{folder.name}/loop")]
    assert len(scan) == 62
