"""Folders of shards made from made-up text, in this process or by the command, and two ways of damaging a file."""

import json
import os
import random
import sys

from interp.data.shards.config import PrepareConfig
from interp.data.shards.prepare import prepare
from tests import commands

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def write_corpus(path, documents):
    choose = random.Random(0)
    words = ["rain", "and", "snow", "in", "1905", "London"]
    lines = [json.dumps({"text": " ".join(choose.choices(words, k=choose.randint(5, 60)))}) for _ in range(documents)]
    path.write_text("\n".join(lines))
    return path


def command(corpus, folder, *more):
    options = ("--vocabulary", "280", "--shard-tokens", "200", "--workers", "0", *more)
    return [sys.executable, "-m", "interp.data", "prepare", str(corpus), str(folder), *options]


def run(corpus, folder, *more, **options):
    return commands.run(command(corpus, folder, *more), env=ENVIRONMENT, **options)


def make(corpus, folder, **settings):
    return prepare(
        PrepareConfig(str(corpus), folder, **{"vocabulary": 280, "workers": 0, "shard_tokens": 200, **settings})
    )


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != ".lock"}


def shards_in(folder):
    try:
        return len(json.loads((folder / "manifest.json").read_text())["shards"])
    except OSError:
        return -1


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def cut(file, place):
    file.write_bytes(file.read_bytes()[:place])
