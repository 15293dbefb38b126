"""Pictures for tests, and ImageNet-style folders of them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

CLASSES = ("n01440764", "n01443537", "n02084071", "n03000684", "n07753592")


SPLIT_SIZES = {"train": (14, 12, 12, 9, 15), "val": (4, 3, 5, 4, 6)}


def encode_jpeg(picture, *, quality=90, subsampling=2, **options):
    """Encode an (H, W), (H, W, 3) or (H, W, 4: CMYK) uint8 picture."""
    picture = np.ascontiguousarray(picture)
    mode = {2: "L", 3: "RGB", 4: "CMYK"}[picture.shape[2] if picture.ndim == 3 else 2]
    buffer = io.BytesIO()
    Image.frombytes(mode, picture.shape[1::-1], picture.tobytes()).save(
        buffer, "JPEG", quality=quality, subsampling=subsampling, **options
    )
    return buffer.getvalue()


def decode(data):
    """Decode an image to (H, W, 3) uint8, as PIL does."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def _generated(rng, height, width):
    """Smooth coloured blobs with some texture on them."""
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    smooth = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    texture = rng.normal(0, 12, (height, width, 1))
    blurred = smooth.filter(ImageFilter.GaussianBlur(2))
    return np.clip(np.asarray(blurred, np.float64) + texture, 0, 255).astype(np.uint8)


def make_pictures(photographs, count, seed):
    """Return `count` small pictures, no two alike: crops of photographs and generated ones."""
    rng = np.random.default_rng(seed)
    pictures = []
    for i in range(count):
        height, width = (int(x) for x in rng.integers(48, 200, 2))
        photograph = photographs[int(rng.integers(len(photographs)))]
        y = int(rng.integers(photograph.shape[0] - height))
        x = int(rng.integers(photograph.shape[1] - width))
        crop = photograph[y : y + height, x : x + width]
        pictures.append(crop if i % 3 else _generated(rng, height, width))
    return pictures


def write_image_folder(root: Path, photographs, sizes, *, classes=CLASSES, seed=0):
    """Write `sizes[split][label]` JPEGs for each class, named as ImageNet names them."""
    for number, (split, counts) in enumerate(sizes.items()):
        pictures = iter(make_pictures(photographs, sum(counts), seed + number))
        for name, count in zip(classes, counts, strict=True):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                # 4:4:4 and 4:2:0, progressive, and gray now and then, as in ImageNet.
                picture = next(pictures)
                picture = picture if i % 7 != 5 else picture[..., 0]
                data = encode_jpeg(picture, subsampling=2 * (i % 2), progressive=i % 5 == 3)
                (folder / f"{name}_{i * 37 + 10}.JPEG").write_bytes(data)
    return root
