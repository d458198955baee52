"""Check that a folder of token shards is what was prepared."""

from __future__ import annotations

from pathlib import Path

from interp.data.manifest import TOKENIZER, Manifest, ShardRecord, sha256
from interp.errors import InterpError


def verify(folder: Path) -> list[str]:
    """Return one sentence for everything that is wrong: no sentence, and the folder is complete and whole.

    Reads every byte: headers, numbers of tokens, checksums, token ids against the vocabulary.

    Raises:
        InterpError: there is no readable manifest.
    """
    manifest = Manifest.read(Path(folder).expanduser())
    problems = (
        [] if manifest.complete else [f"{manifest.folder} is not complete; run its prepare command again to go on."]
    )
    tokenizer = manifest.folder / TOKENIZER
    if manifest.tokenizer_sha256 and not (tokenizer.is_file() and sha256(tokenizer) == manifest.tokenizer_sha256):
        problems.append(f"{tokenizer} is missing or not the one that the shards were made with.")
    for shard in manifest.shards:
        try:
            _verify_shard(manifest, shard)
        except InterpError as error:
            problems.append(str(error))
    return problems


def _verify_shard(manifest: Manifest, shard: ShardRecord) -> None:
    file = manifest.open_file(shard)
    largest = int(file.tokens.max())
    if manifest.d_vocab is None or largest >= manifest.d_vocab:
        raise InterpError(
            f"{file.path} holds the token id {largest} at position {int(file.tokens.argmax())}; "
            f"the vocabulary has {manifest.d_vocab} entries."
        )
    if sha256(file.path) != shard.sha256:
        raise InterpError(f"{file.path} is damaged: its checksum is not the manifest's; copy it again.")
