"""What re-encoding costs: size, speed of reading, and error of the pixels that training sees.

    python -m benchmarks.bench_recode FOLDER [--json FILE]

FOLDER is a folder of class folders with JPEGs. Reading is what training does: decode, cut a random
box (8 to 100 % of the area, fixed draws), resize it to 224 x 224 with anti-aliasing; by PIL, in
images per second of CPU time. The error is between those 224 x 224 pictures, from the original and
from the re-encoded image, with the same box: mean absolute difference of 8-bit values, and PSNR.
"""

import argparse
import io
import json
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import machine
from pipeline.formats.class_folders import scan_class_folders
from pipeline.images.recode import ImageConfig, RecodeConfig, prepare_image

_SIZE = 224
_ROUNDS = 5
_VARIANTS = {
    "original": RecodeConfig(),
    "--quality 90": RecodeConfig(quality=90),
    "--resize 500": RecodeConfig(resize=500, quality=90),
    "--resize 400": RecodeConfig(resize=400, quality=90),
    "--resize 320": RecodeConfig(resize=320, quality=90),
    "--resize 256": RecodeConfig(resize=256, quality=90),
    "--resize 256 --quality 80": RecodeConfig(resize=256, quality=80),
}

Box = tuple[float, float, float, float]


def boxes(count: int) -> list[Box]:
    """Return a random box for each image, as shares of width and height."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        area, ratio = rng.uniform(0.08, 1), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        width, height = min(1.0, np.sqrt(area * ratio)), min(1.0, np.sqrt(area / ratio))
        x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        found.append((x, y, x + width, y + height))
    return found


def read(data: bytes, box: Box) -> np.ndarray:
    """Return the picture as training sees it."""
    with Image.open(io.BytesIO(data)) as image:
        rgb = image.convert("RGB")
    scale = (rgb.width, rgb.height) * 2
    place = tuple(share * side for share, side in zip(box, scale, strict=True))
    return np.asarray(rgb.resize((_SIZE, _SIZE), Image.Resampling.BILINEAR, box=place))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args(argv)
    scan = scan_class_folders(arguments.folder)
    originals = [scan.reader.read(scan.location(i)) for i in range(len(scan))]
    crops = boxes(len(originals))
    stored = {
        name: [prepare_image(d, "a.jpg", ImageConfig(recode=recode)).data for d in originals]
        for name, recode in _VARIANTS.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in stored}
    for _ in range(_ROUNDS):
        for name, images in stored.items():
            start = time.process_time()
            for data, box in zip(images, crops, strict=True):
                read(data, box)
            rates[name].append(len(images) / (time.process_time() - start))
    expected = [read(d, b).astype(float) for d, b in zip(originals, crops, strict=True)]
    result: dict[str, object] = {"machine": machine() | {"images": len(originals)}}
    for name, images in stored.items():
        pictures = [read(d, b).astype(float) for d, b in zip(images, crops, strict=True)]
        errors = [np.abs(p - e) for p, e in zip(pictures, expected, strict=True)]
        squared = statistics.mean(float((error**2).mean()) for error in errors)
        result[name] = {
            "kilobytes": statistics.mean(map(len, images)) / 1e3,
            "images_per_cpu_s": statistics.median(rates[name]),
            "speed": statistics.median(
                a / b for a, b in zip(rates[name], rates["original"], strict=True)
            ),
            "mean_error": statistics.mean(float(error.mean()) for error in errors),
            "psnr_db": 10 * float(np.log10(255**2 / squared)) if squared else None,
        }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
