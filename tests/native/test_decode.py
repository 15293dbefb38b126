"""The compiled decoder of crops against PIL's pixels, on good and on damaged images."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native.jpegs import (
    ENCODINGS,
    UNTOUCHED,
    Crop,
    arguments,
    decode,
    encode,
    joined,
    pil_image,
    random_crop,
    segments,
)

native = pytest.importorskip(
    "millstream_native", reason="`make env` builds it where g++ and libjpeg-turbo's header are"
)
OUT = (48, 40)


@pytest.fixture(scope="module")
def pool():
    with native.Pool(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def pictures(photographs):
    """Photographs as they are, and of sizes that fill no block of 8 or 16 pixels."""
    rng = np.random.default_rng(0)
    cut = [(1, 1), (1, 50), (37, 1), (7, 9), (16, 16), (17, 33), (63, 129), (250, 111)]
    corners = [(int(rng.integers(photo.shape[0] - 250)), photo) for photo in photographs]
    return [photo[:400, :300] for photo in photographs] + [
        photo[top : top + height, top : top + width]
        for (height, width), (top, photo) in zip(cut, corners * 2, strict=False)
    ]


@pytest.fixture(scope="module")
def mixed(pictures):
    """Crops of images of all kinds, in a fixed order."""
    rng = np.random.default_rng(1)
    return [
        random_crop(encode_as(picture), rng)
        for encode_as in ENCODINGS.values()
        for picture in pictures
    ]


@pytest.mark.parametrize("kind", ENCODINGS)
def test_crops_are_pils_to_the_bit(kind, pool, pictures):
    rng = np.random.default_rng(2)
    crops = [random_crop(ENCODINGS[kind](picture), rng) for picture in pictures * 6]
    images, failures = decode(native, pool, crops)
    assert not failures
    for image, crop in zip(images, crops, strict=True):
        np.testing.assert_array_equal(image, pil_image(crop), err_msg=f"{replace(crop, data=b'')}")


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (224, 224), (5, 301), (400, 2)])
def test_any_size_of_the_result_is_pils(size, pool, mixed):
    images, failures = decode(native, pool, mixed[::5], size)
    assert not failures
    for image, crop in zip(images, mixed[::5], strict=True):
        np.testing.assert_array_equal(image, pil_image(crop, size))


def test_all_processors_make_the_same_bits(pool, mixed):
    images, _ = decode(native, pool, mixed, (30, 31))
    native._native.use_portable_kernels(is_portable=True)
    try:
        portable, _ = decode(native, pool, mixed, (30, 31))
    finally:
        native._native.use_portable_kernels(is_portable=False)
    np.testing.assert_array_equal(images, portable)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_number_of_threads_changes_no_bit(threads, pool, mixed):
    with native.Pool(threads) as other:
        np.testing.assert_array_equal(
            decode(native, other, mixed)[0], decode(native, pool, mixed)[0]
        )


def test_calls_at_the_same_time_do_not_meet(pool, mixed):
    expected, _ = decode(native, pool, mixed)
    orders = [np.random.default_rng(i).permutation(len(mixed)) for i in range(12)]
    with ThreadPoolExecutor(4) as callers:
        found = list(
            callers.map(lambda order: decode(native, pool, [mixed[i] for i in order])[0], orders)
        )
    for order, images in zip(orders, found, strict=True):
        np.testing.assert_array_equal(images, expected[order])


def test_views_of_a_read_only_file_are_decoded_in_place(pool, mixed, tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(b"".join(crop.data for crop in mixed))
    mapped = np.memmap(path, np.uint8, "r")
    ends = np.cumsum([len(crop.data) for crop in mixed])
    views = [mapped[end - len(crop.data) : end] for crop, end in zip(mixed, ends, strict=True)]
    out = np.empty((len(mixed), *OUT, 3), np.uint8)
    assert native.decode_crops(pool, views, *arguments(mixed)[1:], out) == []
    np.testing.assert_array_equal(out, decode(native, pool, mixed)[0])


def with_frame(data, **changes):
    """Return a JPEG whose frame header says something else."""
    changed = bytearray(data)
    at = next(i for i in range(2, len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
    offsets = {"marker": (1, 1), "precision": (4, 1), "height": (5, 2), "width": (7, 2)}
    for name, value in changes.items():
        offset, length = offsets[name]
        changed[at + offset : at + offset + length] = value.to_bytes(length, "big")
    return bytes(changed)


def unfinished(picture):
    """Return a progressive JPEG without its last scan, which PIL decodes without a warning."""
    return joined(segments(encode(picture, progressive=True))[:-1])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda picture: b"\x89PNG\r\n\x1a\n" + bytes(50), "not a JPEG"),
        (lambda picture: b"", "not a JPEG"),
        (lambda picture: encode(picture, mode="CMYK"), "4 channels"),
        (lambda picture: with_frame(encode(picture), precision=12), "12 bits"),
        (lambda picture: with_frame(encode(picture), marker=0xC9), "arithmetic"),
        (lambda picture: with_frame(encode(picture), marker=0xC3), "lossless"),
        (unfinished, "not finished"),
    ],
)
def test_what_is_left_to_pil_is_told_from_damage(make, reason, pool, photographs):
    picture = photographs[0][:40, :40]
    crop = Crop.whole(make(picture), (40, 40))
    images, failures = decode(native, pool, [crop])
    assert failures[0][0] == "unsupported"
    assert reason in failures[0][1]
    assert (images == UNTOUCHED).all()


def test_an_image_of_another_size_is_refused_and_both_sizes_named(pool, photographs):
    data = encode(photographs[0][:30, :50])
    _, failures = decode(native, pool, [Crop.whole(data, (30, 51))])
    assert failures == {0: ("damaged", "it is 50 x 30 pixels, but listed with 51 x 30")}


@pytest.mark.parametrize("kind", ["444", "420", "gray", "progressive 420", "restart 420"])
def test_data_that_are_cut_off_anywhere_are_refused(kind, pool, photographs):
    data = ENCODINGS[kind](photographs[1][:90, :70])
    top = replace(Crop.whole(data), shape=(8, 8), end=(8, 8))  # whose pixels come first
    cuts = [replace(top, data=data[:length]) for length in range(3, len(data), 37)]
    _, failures = decode(native, pool, cuts)
    assert [kind for kind, _ in failures.values()] == ["damaged"] * len(cuts)


def test_tables_that_are_missing_are_not_taken_from_the_image_before(photographs):
    data = encode(photographs[0][:64, :64], quality=60, optimize=True)
    crops = [Crop.whole(data)]
    for table in (0xDB, 0xC4):
        lacking = joined([part for part in segments(data) if part[0] != table])
        crops.append(replace(crops[0], data=lacking))
    with native.Pool(1) as pool:
        _, failures = decode(native, pool, crops)
    assert {position: kind for position, (kind, _) in failures.items()} == {
        1: "damaged",
        2: "damaged",
    }


def test_memory_is_bounded_by_what_the_image_says(pool, photographs):
    data = encode(photographs[0][:64, :64], progressive=True)
    huge = with_frame(data, height=65500, width=65500)
    crops = [
        replace(Crop.whole(huge, (65500, 65500)), shape=(9, 9), end=(9, 9)),
        Crop.whole(huge, (64, 64)),
        Crop.whole(data, (2**31 - 1, 2**31 - 1)),
    ]
    _, failures = decode(native, pool, crops)
    assert failures[0] == ("unsupported", "65500 x 65500 pixels, which take gigabytes")
    assert [failures[position][0] for position in (1, 2)] == ["damaged", "damaged"]


@pytest.mark.parametrize(("copies", "is_taken"), [(20, True), (200, False)])
def test_scans_without_end_are_refused(copies, is_taken, pool, photographs):
    parts = segments(encode(photographs[0][:64, :64], mode="L", progressive=True))
    first_ac = [i for i, (marker, _) in enumerate(parts) if marker == 0xDA][1]
    scan = bytearray(parts[first_ac][1])
    scan[9] = 0  # all bits at once: what may be sent any number of times
    repeated = [parts[first_ac - 1], (0xDA, bytes(scan))] * copies
    crop = Crop.whole(joined(parts + repeated))
    images, failures = decode(native, pool, [crop])
    if is_taken:
        np.testing.assert_array_equal(images[0], pil_image(crop))
    else:
        assert failures == {0: ("damaged", "more than 100 scans")}


edits = st.lists(
    st.tuples(
        st.sampled_from(["cut", "flip", "set", "remove", "insert", "marker"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def edited(data, changes):
    for kind, place, value in changes:
        at = int(place * len(data))
        before, here, after = data[:at], data[at : at + 1], data[at + 1 :]
        data = {
            "cut": before,
            "flip": before + bytes(byte ^ 1 << value % 8 for byte in here) + after,
            "set": before + bytes([value]) + after,
            "remove": before + data[at + 1 + value % 16 :],
            "insert": before + bytes([value]) + here + after,
            "marker": before + bytes([0xFF, value]) + after[1:],
        }[kind]
    return data


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(sorted(ENCODINGS)), changes=edits, seed=st.integers(0, 1000))
def test_damage_is_refused_or_harmless_and_hurts_no_neighbour(
    kind, changes, seed, pool, photographs
):
    rng = np.random.default_rng(seed)
    good = random_crop(ENCODINGS[kind](photographs[seed % 4][:48, :41]), rng)
    bad = replace(good, data=edited(good.data, changes))
    images, failures = decode(native, pool, [good, bad, good])
    assert set(failures) <= {1}
    np.testing.assert_array_equal(images[0], pil_image(good))
    np.testing.assert_array_equal(images[2], images[0])
    np.testing.assert_array_equal(images[1], UNTOUCHED if failures else pil_image(bad))


@given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"\xff\xd8\xff", b"\xff\xd8"]))
def test_random_bytes_are_refused(data, start, pool):
    images, failures = decode(native, pool, [Crop.whole(start + data, (8, 8))])
    assert set(failures) == {0}
    assert (images == UNTOUCHED).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (65, 10)}, "part"),
        ({"anchor": (-1, 0)}, "part"),
        ({"anchor": (2**31 - 1, 0)}, "part"),
        ({"shape": (0, 10)}, "part"),
        ({"end": (0, 64)}, "region"),
        ({"end": (65, 64)}, "region"),
        ({"start": (float("nan"), 0)}, "region"),
        ({"start": (0, -0.5)}, "region"),
    ],
)
def test_a_part_or_region_that_is_not_there_is_the_callers_error(
    changes, message, pool, photographs
):
    good = Crop.whole(encode(photographs[0][:64, :64]))
    with pytest.raises(ValueError, match=f"image 1 of the batch: the {message}"):
        decode(native, pool, [good, replace(good, **changes)])


def test_arguments_of_another_form_are_refused(pool, mixed):
    given_arguments = arguments(mixed[:2])
    out = np.empty((2, *OUT, 3), np.uint8)
    for position, argument in enumerate(given_arguments[1:], 1):
        wrong = [argument.astype(np.int64), argument[:1], np.repeat(argument, 2, axis=0)[::2]]
        for value in wrong:
            changed = [*given_arguments]
            changed[position] = value
            with pytest.raises((TypeError, ValueError)):
                native.decode_crops(pool, *changed, out)
    for value in (out[:, :, ::2], out[..., :2], out.astype(np.float32), out[:1]):
        with pytest.raises((TypeError, ValueError)):
            native.decode_crops(pool, *given_arguments, value)
    for value in (np.zeros(9, np.float32), np.zeros(9, np.uint8)[::2], "text", None):
        with pytest.raises((TypeError, ValueError, BufferError)):
            native.decode_crops(pool, [value] * 2, *given_arguments[1:], out)


def test_a_batch_without_images_is_one(pool):
    images, failures = decode(native, pool, [])
    assert images.shape == (0, *OUT, 3)
    assert not failures


def test_gray_images_have_equal_channels(pool, photographs):
    images, _ = decode(native, pool, [Crop.whole(encode(photographs[0], mode="L"))])
    assert (images == images[..., :1]).all()
