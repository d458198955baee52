"""Token shards give back the tokens in their files, of every format, and say which file is damaged and where."""

import json
import struct

import numpy as np
import pytest

from interp.data.shards.open import TokenShards, is_shards, open_shards, tokenizer_of
from interp.errors import InterpError


def headed(tokens, magic=20240520, version=1, count=None):
    """A .bin file as its definition says: 256 little-endian int32, then little-endian uint16."""
    header = struct.pack("<256i", magic, version, len(tokens) if count is None else count, *[0] * 253)
    return header + b"".join(struct.pack("<H", token) for token in tokens)


def bare(tokens):
    return b"".join(struct.pack("<H", token) for token in tokens)


def save_npy(path, tokens, dtype):
    np.save(path, np.asarray(tokens, dtype=dtype))


WRITERS = {
    "headed.bin": lambda path, tokens: path.write_bytes(headed(tokens)),
    "bare.bin": lambda path, tokens: path.write_bytes(bare(tokens)),
    "a.npy": lambda path, tokens: save_npy(path, tokens, np.uint16),
    "b.npy": lambda path, tokens: save_npy(path, tokens, np.int32),
    "c.npy": lambda path, tokens: save_npy(path, tokens, np.uint32),
    "d.npy": lambda path, tokens: save_npy(path, tokens, np.int64),
    "e.npy": lambda path, tokens: save_npy(path, tokens, ">u4"),
}


def random_tokens(seed, size, d_vocab=60_000):
    return np.random.default_rng(seed).integers(d_vocab, size=size)


def everything(shards):
    return shards.windows(np.array([0]), len(shards))[0]


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_back_its_tokens(tmp_path, name):
    tokens = random_tokens(0, 1000)
    WRITERS[name](tmp_path / name, tokens)
    assert is_shards(tmp_path / name)
    training, validation = (open_shards(tmp_path / name, split) for split in ("train", "validation"))
    assert (len(training), len(validation)) == (950, 50)
    assert np.array_equal(np.concatenate([everything(training), everything(validation)]), tokens)


@pytest.mark.parametrize("lengths", [[50], [1, 1, 1, 30], [7, 2, 9, 3, 40], [100, 5, 100]])
@pytest.mark.parametrize("seed", range(3))
def test_windows_are_those_of_the_files_one_after_the_other(tmp_path, lengths, seed):
    pieces = [random_tokens([seed, number], size) for number, size in enumerate(lengths)]
    for number, (piece, write) in enumerate(zip(pieces, list(WRITERS.values()) * 2, strict=False)):
        write(tmp_path / f"x_train_{number}.{'bin' if number % 7 < 2 else 'npy'}", piece)
    WRITERS["headed.bin"](tmp_path / "x_val_0.bin", [1, 2])
    shards, stream = open_shards(tmp_path, "train"), np.concatenate(pieces)
    assert len(shards) == len(stream)
    random = np.random.default_rng(seed)
    for length in (1, 2, 11, len(stream)):
        starts = random.integers(len(stream) - length + 1, size=random.integers(0, 30))
        expected = stream[starts[:, None] + np.arange(length)]
        assert np.array_equal(shards.windows(starts, length), expected)
        first, end = sorted(random.integers(len(stream) + 1, size=2).tolist())
        if first < end:
            part = shards.slice(first, end)
            assert np.array_equal(everything(part), stream[first:end])
            assert len(part) == end - first
    in_memory = TokenShards.of(stream.astype(np.uint16))
    assert np.array_equal(everything(in_memory), everything(shards))


def test_opening_maps_nothing_and_reading_maps_only_the_files_needed(tmp_path):
    for number in range(3):
        WRITERS["headed.bin"](tmp_path / f"train_{number}.bin", [number] * 10)
    WRITERS["headed.bin"](tmp_path / "val_0.bin", [9] * 10)
    shards = open_shards(tmp_path, "train")
    mapped = [part.source.__dict__ for part in shards.parts]
    assert not any("tokens" in entry for entry in mapped)
    shards.windows(np.array([12, 14]), 5)
    assert ["tokens" in entry for entry in mapped] == [False, True, False]
    assert isinstance(shards.parts[1].source.tokens.base, np.memmap)


def test_files_of_a_foreign_folder_are_split_by_name(tmp_path):
    for name in ("fineweb_train_000002", "fineweb_train_000001", "fineweb_val_000000", "test"):
        WRITERS["headed.bin"](tmp_path / f"{name}.bin", [len(name), ord(name[-1])])
    (tmp_path / ".hidden.bin").write_bytes(b"x")
    assert everything(open_shards(tmp_path, "train")).tolist() == [20, ord("1"), 20, ord("2")]
    assert everything(open_shards(str(tmp_path), "validation")).tolist() == [18, ord("0")]


def test_without_names_all_files_but_validation_are_for_training(tmp_path):
    for name in ("b", "a", "validation"):
        WRITERS["headed.bin"](tmp_path / f"{name}.bin", [ord(name[0])])
    assert everything(open_shards(tmp_path, "train")).tolist() == [ord("a"), ord("b")]
    assert everything(open_shards(tmp_path, "validation")).tolist() == [ord("v")]


def test_only_whole_words_of_a_name_tell_the_split_and_what_went_where_is_said(tmp_path, capsys):
    for name in ("medieval_train_000", "interval_b", "valentines", "contest"):
        WRITERS["headed.bin"](tmp_path / f"{name}.bin", [ord(name[0])] * 40)
    assert everything(open_shards(tmp_path, "train")).tolist() == [ord("m")] * 38  # the last 5% are held out
    assert "shards for training 1 (medieval_train_000.bin), for validation none; 3 of neither left out." in " ".join(
        capsys.readouterr().err.split()
    )


def test_without_validation_files_the_end_of_the_stream_is_held_out(tmp_path):
    tokens = random_tokens(5, 203)
    WRITERS["headed.bin"](tmp_path / "a.bin", tokens[:195])
    WRITERS["headed.bin"](tmp_path / "b.bin", tokens[195:])
    assert np.array_equal(everything(open_shards(tmp_path, "train")), tokens[:-10])
    assert np.array_equal(everything(open_shards(tmp_path, "validation")), tokens[-10:])


def test_at_most_ten_million_tokens_are_held_out(tmp_path):
    with (tmp_path / "big.bin").open("wb") as file:
        file.write(struct.pack("<256i", 20240520, 1, 300_000_000, *[0] * 253))
        file.truncate(1024 + 600_000_000)  # a sparse file: no disk is filled
    assert len(open_shards(tmp_path, "validation")) == 10_000_000
    assert len(open_shards(tmp_path, "train")) == 290_000_000


def test_what_is_a_shard(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("x")
    (tmp_path / "text" / "manifest.json").write_text("[]")
    assert not is_shards(tmp_path / "text")
    assert not is_shards(tmp_path / "text" / "a.txt")
    assert not is_shards("wikipedia-sample")
    assert not is_shards("a text " * 1000)
    assert not is_shards(tmp_path / "absent.bin")
    (tmp_path / "text" / "manifest.json").write_text(json.dumps({"kind": "interp token shards"}))
    assert is_shards(tmp_path / "text")


def test_a_token_outside_the_vocabulary_is_named_with_file_position_and_remedy(tmp_path):
    WRITERS["headed.bin"](tmp_path / "train_0.bin", range(100))
    WRITERS["headed.bin"](tmp_path / "train_1.bin", [*range(40), 500, 3])
    WRITERS["headed.bin"](tmp_path / "val_0.bin", [1])
    shards = open_shards(tmp_path, "train", d_vocab=100)
    assert shards.windows(np.array([0, 130]), 10).shape == (2, 10)
    message = r"train_1\.bin holds the token id 500 at position 40, .*\(ids 0 to 99\); use the tokenizer"
    for starts in ([135], [0, 134]):
        with pytest.raises(InterpError, match=message):
            shards.windows(np.array(starts), 7)
    with pytest.raises(InterpError, match=message):
        shards.slice(90, 142).windows(np.array([0, 5]), 47)
    WRITERS["d.npy"](tmp_path / "n.npy", [0] * 30 + [-1] + [0] * 30)
    with pytest.raises(InterpError, match=r"n\.npy holds the token id -1 at position 30, .*ids from 0 on"):
        open_shards(tmp_path / "n.npy", "train").windows(np.array([1]), 40)
    with pytest.raises(InterpError, match="the array holds the token id 7 at position 2"):
        TokenShards.of(np.array([1, 2, 7]), d_vocab=7, name="the array").windows(np.array([0]), 3)


@pytest.mark.parametrize(("starts", "length"), [([-1], 2), ([9], 2), ([0, 3], 8), ([0], 0), ([0], 11)])
def test_windows_outside_the_stream_are_refused(starts, length):
    with pytest.raises(InterpError, match="do not lie in the 10 tokens in 1 file"):
        TokenShards.of(np.arange(10)).windows(np.array(starts), length)


def test_a_stream_describes_itself(tmp_path):
    for number in range(5):
        WRITERS["headed.bin"](tmp_path / f"val_{number}.bin", [1] * 300)
    WRITERS["headed.bin"](tmp_path / "train.bin", [1])
    assert open_shards(tmp_path, "validation").describe() == "1,500 tokens in 5 files (val_0.bin, ..., val_4.bin)"
    assert repr(open_shards(tmp_path, "train")) == "TokenShards(1 tokens in 1 file (train.bin))"


def npy_bytes(tmp_path, array, **options):
    np.save(tmp_path / "made.npy", array, **options)
    return (tmp_path / "made.npy").read_bytes()


DAMAGED = {
    "cut short": (
        "a.bin",
        lambda p: headed([1] * 90)[:-7],
        r"ends at byte 1197.*90 tokens.*end at byte 1204: it holds 86",
    ),
    "longer than said": ("a.bin", lambda p: headed([1] * 90) + b"xx", r"ends at byte 1206.*at byte 1204: it holds 91"),
    "a negative count": ("a.bin", lambda p: headed([1], count=-4), r"says -4 tokens"),
    "no tokens": ("a.bin", lambda p: headed([]), "holds no token"),
    "cut in the header": (
        "a.bin",
        lambda p: headed([1] * 90)[:700],
        "ends at byte 700, inside its header of 1024 bytes",
    ),
    "another version": ("a.bin", lambda p: headed([1], version=2), r"is of version 2 \(bytes 4 to 7\); expected 1"),
    "another magic": ("a.bin", lambda p: headed([1], magic=20240801), r"number 20240801 in place of 20240520 .bytes 0"),
    "an odd size": ("a.bin", lambda p: bare([5] * 90)[:-1], r"odd size, 179 bytes.*cut short"),
    "empty": ("a.bin", lambda p: b"", "holds no token"),
    "one byte": ("a.bin", lambda p: b"x", "odd size, 1 bytes"),
    "empty .npy": ("a.npy", lambda p: b"", r"not a readable \.npy file"),
    "no .npy": ("a.npy", lambda p: b"PK junk" * 40, r"not a readable \.npy file"),
    ".npy cut short": (
        "a.npy",
        lambda p: npy_bytes(p, np.arange(50))[:-3],
        "50 tokens, which end at byte 528: it holds 49",
    ),
    ".npy cut in its header": ("a.npy", lambda p: npy_bytes(p, np.arange(50))[:60], r"not a readable \.npy file"),
    ".npy of no tokens": ("a.npy", lambda p: npy_bytes(p, np.zeros(0, dtype=np.int64)), "holds no token"),
    "two dimensions": ("a.npy", lambda p: npy_bytes(p, np.zeros((3, 4), dtype=np.int64)), r"int64 of shape \[3, 4\]"),
    "floats": (
        "a.npy",
        lambda p: npy_bytes(p, np.zeros(3)),
        r"float64 of shape \[3\]; expected one dimension of uint16",
    ),
    "a pickle": (
        "a.npy",
        lambda p: npy_bytes(p, np.array([{"a": 1}], dtype=object), allow_pickle=True),
        r"object of shape \[1\]",
    ),
    "another ending": (
        "a.dat",
        lambda p: bare([1]),
        r"a\.dat is no token shard; expected a file that ends in \.bin or \.npy",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_shard_is_one_clear_sentence_that_names_it(tmp_path, name):
    file, make, sentence = DAMAGED[name]
    (tmp_path / file).write_bytes(make(tmp_path))
    with pytest.raises(InterpError, match=sentence) as error:
        open_shards(tmp_path / file, "train")
    assert str(tmp_path / file) in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_opened_is_one_clear_sentence(tmp_path):
    with pytest.raises(InterpError, match=r"no token shards at .*absent"):
        open_shards(tmp_path / "absent", "train")
    with pytest.raises(InterpError, match=r"holds no token shard; expected files that end in \.bin, \.npy"):
        open_shards(tmp_path, "train")
    WRITERS["headed.bin"](tmp_path / "val_0.bin", [1])
    with pytest.raises(InterpError, match=r"holds validation shards only \(val_0\.bin\)"):
        open_shards(tmp_path, "train")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InterpError, match=r"manifest\.json cannot be read as JSON"):
        open_shards(tmp_path, "train")


def test_a_file_cut_after_it_was_opened_is_one_clear_sentence(tmp_path):
    WRITERS["headed.bin"](tmp_path / "a.bin", [1] * 100)
    shards = open_shards(tmp_path, "train")
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(InterpError, match=r"Cannot map .*a\.bin"):
        shards.windows(np.array([0]), 5)


def test_the_tokenizer_beside_foreign_shards_is_found(tmp_path, tokenizer):
    WRITERS["headed.bin"](tmp_path / "a.bin", [1] * 100)
    assert tokenizer_of(tmp_path) is None
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path, tmp_path / "a.bin"):
        found = tokenizer_of(path)
        assert found is not None
        assert found.get_vocab() == tokenizer.get_vocab()
