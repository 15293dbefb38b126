"""The tar writer against Python's tarfile, and the plan against its rules."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.names import MAX_KEY_BYTES, member_extension, sample_key
from pipeline.prepare.conversion.plan import PlanConfig, plan_shards, shard_bytes
from pipeline.storage.tar_writer import FixedMembers, TarWriter, tar_header


def _written(path, members):
    tar = TarWriter(path, with_sha256=True)
    offsets = [tar.append(name, data) for name, data in members]
    tar.finish()
    tar.close()
    return path.read_bytes(), offsets


def _by_tarfile(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name.decode())
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@given(
    names=st.lists(st.from_regex(r"[^\x00/\ud800-\udfff]{1,25}", fullmatch=True), max_size=6),
    sizes=st.lists(
        st.sampled_from([0, 1, 511, 512, 513, 400_000, 1_100_000]), min_size=6, max_size=6
    ),
)
def test_archive_is_what_tarfile_writes(tmp_path_factory, names, sizes):
    members = [(name.encode(), bytes(size)) for name, size in zip(names, sizes, strict=False)]
    written, offsets = _written(tmp_path_factory.mktemp("tar") / "a.tar", members)
    assert written == _by_tarfile(members)
    for (_, data), offset in zip(members, offsets, strict=True):
        assert written[offset : offset + len(data)] == data


@given(key=st.from_regex(r"[a-z/]{1,90}", fullmatch=True), label=st.integers(0, 10**6))
def test_prepared_members_are_those_of_tarfile(key, label):
    contents = {".cls": str(label).encode(), ".i4": b"%b\0%"}
    blocks = FixedMembers([(s.encode(), data) for s, data in contents.items()]).blocks(key.encode())
    expected = _by_tarfile([(f"{key}{suffix}".encode(), data) for suffix, data in contents.items()])
    assert blocks == expected[:2048]


@pytest.mark.parametrize(("name", "size"), [(b"", 1), (b"x" * 101, 1), (b"x", -1), (b"x", 8**11)])
def test_what_does_not_fit_a_header_is_refused(name, size):
    with pytest.raises(ValueError, match="USTAR"):
        tar_header(name, size)


def test_sha256_is_that_of_the_file(tmp_path):
    tar = TarWriter(tmp_path / "a.tar", with_sha256=True)
    tar.append(b"a.jpg", b"123", b"x" * 512)
    tar.finish()
    tar.close()
    assert tar.sha256 is not None
    digest = hashlib.sha256((tmp_path / "a.tar").read_bytes()).hexdigest()
    assert tar.sha256.hexdigest() == digest


@given(
    path=st.text(min_size=1, max_size=200).filter(lambda s: "\0" not in s),
    other=st.text(min_size=1, max_size=200).filter(lambda s: "\0" not in s),
)
def test_keys_are_safe_names_and_different_paths_have_different_keys(path, other):
    key = sample_key(f"{path}.jpg")
    assert 0 < len(key.encode()) <= MAX_KEY_BYTES
    assert not set(key) & set(" .\\\t\n\r\x7f")
    if path != other:
        assert key != sample_key(f"{other}.jpg")


@pytest.mark.parametrize(
    ("path", "key", "extension"),
    [
        ("n01440764/n01440764_10026.JPEG", "n01440764/n01440764_10026", "jpg"),
        ("cat/a b.v1.jpg", "cat/a%20b%2Ev1", "jpg"),
        ("cat/100%.PNG", "cat/100%25", "png"),
        ("café/Grüße.webp", "café/Grüße", "webp"),
        ("cat/\udcff.jpeg", "cat/%FF", "jpg"),
    ],
)
def test_key_and_extension_of_a_path(path, key, extension):
    assert (sample_key(path), member_extension(path)) == (key, extension)


def test_long_names_are_cut_and_told_apart_by_a_hash():
    one, other = (sample_key(f"class/{'ü' * 60}{end}.jpg") for end in "ab")
    assert one != other
    assert one[:30] == other[:30] == "class/" + "ü" * 24
    assert len(one.encode()) <= MAX_KEY_BYTES


SIZES = st.lists(st.integers(1, 300_000), min_size=1, max_size=200).map(np.array)


@given(sizes=SIZES, order=st.sampled_from(["shuffled", "kept"]), limit=st.integers(1, 3_000_000))
def test_every_image_is_in_one_shard_and_shards_are_as_large_as_wanted(sizes, order, limit):
    plan = plan_shards(sizes, PlanConfig(order=order, shard_bytes=limit))
    shards = [plan.entries(shard) for shard in range(plan.num_shards)]
    assert sorted(np.concatenate(shards)) == list(range(len(sizes)))
    largest = shard_bytes(sizes[[int(sizes.argmax())]])
    for number, shard in enumerate(shards):
        size = shard_bytes(sizes[shard])
        # A tar ends at a multiple of 10,240 bytes: the last image may begin one record further.
        assert size < limit + largest + 10_240
        assert size >= limit or number == plan.num_shards - 1


@given(sizes=SIZES, samples=st.integers(1, 50))
def test_shards_hold_as_many_images_as_wanted(sizes, samples):
    plan = plan_shards(sizes, PlanConfig(shard_bytes=0, shard_samples=samples))
    counts = np.diff(plan.starts)
    assert (counts[:-1] == samples).all()
    assert 1 <= counts[-1] <= samples


def _splitmix64(state):
    """The published generator, in Python's integers."""
    mask = 2**64 - 1
    z = state * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def test_shuffled_order_depends_on_no_library():
    plan = plan_shards(np.full(500, 100), PlanConfig())
    assert plan.order.tolist() == sorted(range(500), key=lambda i: _splitmix64(i + 1))


def test_shuffled_shards_mix_the_classes():
    labels = np.repeat(np.arange(100), 50)
    plan = plan_shards(np.full(5000, 100), PlanConfig(shard_bytes=0, shard_samples=500))
    for shard in range(plan.num_shards):
        # 500 draws from 100 equally frequent classes miss a class with probability 0.995^500 < 0.1
        assert len(np.unique(labels[plan.entries(shard)])) > 80


def test_size_of_a_shard_is_bytes_or_samples():
    with pytest.raises(ValueError, match="either a number of bytes or a number of samples"):
        PlanConfig(shard_bytes=100, shard_samples=100)
