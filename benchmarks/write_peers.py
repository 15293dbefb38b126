"""What benchmarks/bench_write.py compares: ways to write a data set, and the limits of that."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from pipeline.formats.class_folders import scan_class_folders
from pipeline.images.header import read_header
from pipeline.images.recode import ImageConfig, RecodeConfig
from pipeline.prepare.conversion.conversion import Conversion
from pipeline.prepare.conversion.run import convert
from pipeline.prepare.writers.job import WriteConfig

SHORT_SIDE, QUALITY = 400, 90
SHARD_BYTES = 256_000_000

Job = Callable[[Path], object]


class Input:
    """The files of a folder, listed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scan = scan_class_folders(folder)
        locations = [self.scan.location(i) for i in range(len(self.scan))]
        self.samples = [
            (str(folder / place), key, label)
            for place, key, label in zip(
                locations, self.scan.keys.to_pylist(), self.scan.labels.tolist(), strict=True
            )
        ]


def copy(source: Input, sync: bool, out: Path) -> None:
    with (out / "copy").open("wb", buffering=0) as target:
        for path, _, _ in source.samples:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (no overhead wanted)
                target.write(file.read())
        if sync:
            os.fsync(target.fileno())


def ours(source: Input, writing: WriteConfig, out: Path) -> None:
    conversion = Conversion(scan=source.scan, folder=out / "train", split="train", writing=writing)
    convert(conversion, lambda images, size_bytes: None)


def shard_writer(source: Input, mtime: float | None, out: Path) -> None:
    pattern = str(out / "train-%06d.tar")
    with webdataset.ShardWriter(pattern, maxsize=SHARD_BYTES, verbose=0, mtime=mtime) as sink:
        for path, key, label in source.samples:
            sink.write({"__key__": key, "jpg": Path(path).read_bytes(), "cls": label})


def python_tarfile(source: Input, out: Path) -> None:
    with tarfile.open(out / "train.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for path, key, label in source.samples:
            members = {"jpg": Path(path).read_bytes(), "cls": str(label).encode()}
            for extension, data in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def gnu_tar(source: Input, out: Path) -> None:
    names = "\n".join(os.path.relpath(path, source.folder) for path, _, _ in source.samples)
    command = ["tar", "--format=ustar", "-cf", str(out / "train.tar"), "-C", str(source.folder)]
    subprocess.run([*command, "-T", "-"], input=names.encode(), check=True)


def ffcv_writer(source: Input, out: Path) -> None:
    """FFCV's DatasetWriter, told to keep the JPEG bytes."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    image = RGBImageField(write_mode="jpg")
    image.encode = partial(_keep_bytes, image)
    fields = {"image": image, "label": IntField()}
    writer = DatasetWriter(str(out / "train.beton"), fields, num_workers=1)
    writer.from_indexed_dataset(_FfcvSamples(source), chunksize=100)


class _FfcvSamples:
    def __init__(self, source: Input) -> None:
        self.samples = source.samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        path, _, label = self.samples[index]
        return Path(path).read_bytes(), label


def _keep_bytes(field, destination, data, allocate):
    header = read_header(data)
    destination["mode"], destination["width"], destination["height"] = (
        0,
        header.width,
        header.height,
    )
    destination["data_ptr"], storage = allocate(len(data))
    storage[:] = np.frombuffer(data, np.uint8)


def codec_pillow(source: Input, out: Path) -> None:
    """Pillow alone, without checks, headers, files or shards."""
    for data in contents(source):
        with Image.open(io.BytesIO(data)) as image:
            picture = image.convert("RGB")
        scale = min(1.0, SHORT_SIDE / min(picture.size))
        if scale < 1:
            size = tuple(round(side * scale) for side in picture.size)
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        picture.save(io.BytesIO(), "JPEG", quality=QUALITY)


def codec_turbo(source: Input, out: Path) -> None:
    """libjpeg-turbo through OpenCV, which is the nearest to it in Python; area resampling."""
    import cv2

    cv2.setNumThreads(1)
    for data in contents(source):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        height, width = picture.shape[:2]
        scale = min(1.0, SHORT_SIDE / min(height, width))
        if scale < 1:
            size = (round(width * scale), round(height * scale))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


_CONTENTS: dict[Path, list[bytes]] = {}


def contents(source: Input) -> list[bytes]:
    """Return the bytes of a part of the files, read once; re-encoding is slow."""
    if source.folder not in _CONTENTS:
        _CONTENTS[source.folder] = [Path(p).read_bytes() for p, _, _ in source.samples]
    return _CONTENTS[source.folder]


def pass_through(source: Input) -> dict[str, Job]:
    plain = partial(WriteConfig, checksums=False)
    return {
        "copy, brought to the disk": partial(copy, source, True),  # noqa: FBT003
        "copy, left in memory": partial(copy, source, False),  # noqa: FBT003
        "millstream, no checksums": partial(ours, source, plain()),
        "millstream": partial(ours, source, WriteConfig()),
        "webdataset ShardWriter": partial(shard_writer, source, None),
        "webdataset ShardWriter, mtime=0": partial(shard_writer, source, 0.0),
        "tarfile, ustar": partial(python_tarfile, source),
        "GNU tar (no labels)": partial(gnu_tar, source),
        "FFCV writer, JPEG kept": partial(ffcv_writer, source),
    }


def whole_program(source: Input, options: list[str], out: Path) -> None:
    command = [sys.executable, "-m", "tools.make_shards", str(source.folder.parent), *options]
    command += ["--split", "train", "--output", str(out), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def repeated(source: Input, times: int, folder: Path) -> Input:
    """Return an input `times` as large, of links."""
    for path, key, _ in source.samples:
        name = folder / "train" / key
        name.parent.mkdir(parents=True, exist_ok=True)
        for number in range(times):
            os.link(path, name.with_name(f"{name.name}_{number}.JPEG"))
    return Input(folder / "train")


def all_cores(source: Input) -> dict[str, Job]:
    """The whole program, with its start and all the processes it takes; only wall time counts."""
    return {
        "copy, brought to the disk": partial(copy, source, True),  # noqa: FBT003
        "tools/make_shards.py --no-checksums": partial(whole_program, source, ["--no-checksums"]),
        "tools/make_shards.py": partial(whole_program, source, []),
        "webdataset ShardWriter": partial(shard_writer, source, None),
    }


def re_encoding(source: Input) -> dict[str, Job]:
    recode = RecodeConfig(resize=SHORT_SIDE, quality=QUALITY)
    writing = WriteConfig(images=ImageConfig(recode=recode))
    contents(source)
    jobs: dict[str, Job] = {"Pillow alone": partial(codec_pillow, source)}
    try:
        metadata.version("opencv-python")
        jobs["libjpeg-turbo and OpenCV alone"] = partial(codec_turbo, source)
    except metadata.PackageNotFoundError:
        print("no OpenCV: no limit of re-encoding")
    return {**jobs, "millstream --resize": partial(ours, source, writing)}


_IMG2DATASET = """
import sys
from img2dataset import download
download(url_list=sys.argv[1], output_folder=sys.argv[2], processes_count=1, thread_count=4,
         disable_all_reencoding=True, output_format="webdataset", input_format="txt",
         number_sample_per_shard=2000, compute_hash=None, enable_wandb=False)
"""


def img2dataset(source: Input, python: Path) -> Job:
    """Files by file:// URLs, one process, bytes kept, without labels."""
    urls = "\n".join(Path(path).resolve().as_uri() for path, _, _ in source.samples)

    def run(out: Path) -> None:
        listed = out / "urls.txt"
        listed.write_text(urls)
        command = [str(python), "-c", _IMG2DATASET, str(listed), str(out / "shards")]
        subprocess.run(command, check=True, capture_output=True)
        count = _images_in(out / "shards")
        assert count == len(source.samples), f"{count} of {len(source.samples)} images"

    return run


def _images_in(folder: Path) -> int:
    count = 0
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            count += sum(member.name.endswith(".jpg") for member in tar)
    return count
