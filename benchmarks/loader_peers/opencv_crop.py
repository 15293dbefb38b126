"""Decoding and cropping with simplejpeg and OpenCV: the fastest that loaders of Python plug in."""

import math
import random

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks.loader_peers.peer import SIZE


def cropped(data: bytes) -> NDArray[np.uint8]:
    """Return a (SIZE, SIZE, 3) random resized crop, flipped in half of all cases."""
    image = simplejpeg.decode_jpeg(data)
    top, left, height, width = _box(*image.shape[:2])
    part = image[top : top + height, left : left + width]
    small = cv2.resize(part, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return cv2.flip(small, 1) if random.random() < 0.5 else small


def _box(height: int, width: int) -> tuple[int, int, int, int]:
    """Draw top, left, height and width as torchvision does."""
    for _ in range(10):
        area = height * width * random.uniform(0.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return random.randint(0, height - h), random.randint(0, width - w), h, w
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w
