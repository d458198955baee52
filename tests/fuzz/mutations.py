"""Damage to files, drawn from a seed: bytes replaced, cut or added, and values of JSON of the wrong kind or size."""

import json
import struct

HOSTILE_BYTES = b'\x00\xff{}[]"\\,:'
HOSTILE_VALUES = (
    "x", "", None, True, [], {}, [[[]]], {"x": 1}, float("nan"), float("inf"), 1e308, -(10**9), 10**30, 2.5, "9" * 50,
)  # fmt: skip


def replace_bytes(random, data):
    """Replace one to three bytes by such that carry meaning somewhere."""
    data = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        data[int(random.integers(len(data)))] = HOSTILE_BYTES[int(random.integers(len(HOSTILE_BYTES)))]
    return bytes(data)


def flip_a_bit(random, data):
    """Flip one bit anywhere."""
    data, place = bytearray(data), int(random.integers(len(data)))
    data[place] ^= 1 << int(random.integers(8))
    return bytes(data)


def cut(random, data):
    """Leave off the end."""
    return data[: int(random.integers(len(data)))]


def lengthen(random, data):
    """Add bytes to the end, or write the whole twice."""
    return data * 2 if random.integers(2) else data + random.bytes(int(random.integers(1, 50)))


def value(random, data):
    """Put a value of the wrong kind or size somewhere into JSON."""
    content = json.loads(data)
    place, key = content, None
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = keys[int(random.integers(len(keys)))]
        inner = place[key]
        if not (isinstance(inner, (dict, list)) and inner) or random.integers(4) == 0:
            break
        place = inner
    place[key] = HOSTILE_VALUES[int(random.integers(len(HOSTILE_VALUES)))]
    return json.dumps(content).encode()


def name(random, data):
    """Misspell a name in JSON, at its top or one level below."""
    content = json.loads(data)
    inner = [v for v in content.values() if isinstance(v, dict) and v]
    place = inner[int(random.integers(len(inner)))] if inner and random.integers(2) else content
    key = list(place)[int(random.integers(len(place)))]
    place[key + "x"] = place.pop(key)
    return json.dumps(content).encode()


def nest(random, data):
    """Nest JSON more deeply than any reader goes, or write a number longer than any."""
    return b'{"model": ' * 50_000 if random.integers(2) else b'{"model": ' + b"9" * 5000 + b"}"


def in_header(change):
    """Return a change of the header of a safetensors file."""

    def changed(random, data):
        size = struct.unpack("<Q", data[:8])[0]
        header = change(random, data[8 : 8 + size])
        return struct.pack("<Q", len(header)) + header + data[8 + size :]

    return changed


def length(random, data):
    """Claim another length of a safetensors header."""
    return struct.pack("<Q", int(random.choice([0, 1, 2**31, 2**62, len(data)]))) + data[8:]
