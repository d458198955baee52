"""What is damaged and how it is read: files in a folder, the changes to each, and a reader that returns numbers."""

import json

import numpy as np
import torch

from interp.analysis.resume import ResumeFile
from interp.data.contexts import Block
from interp.data.corpora.corpus import open_corpus
from interp.data.tokenizer import train_tokenizer
from interp.model.checkpoint import load_model, save_checkpoint
from interp.model.config import BiasConfig, ModelConfig
from interp.model.foreign.formats import read_foreign
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train import checkpoints
from interp.train.config import TrainConfig
from interp.train.run import prepare
from interp.train.saving import save_state
from interp.vocabulary import END_OF_TEXT, load_tokenizer, vocabulary_size
from tests.fuzz import mutations as m

TEXT = "The quick brown fox jumps over 13 lazy dogs; it sleeps. "
BYTES, JSON = (m.replace_bytes, m.cut, m.lengthen), (m.value, m.name, m.nest, m.cut, m.replace_bytes)
HEADER = (m.in_header(m.value), m.in_header(m.name), m.length, m.cut, m.lengthen)


def model_of(tokenizer):
    cfg = ModelConfig(2, 12, 3, 16, len(tokenizer), q=BiasConfig(0.5, 0.1, "batch"), activation="prelu")
    return HookedSymmetryBrokenTransformer(cfg, tokenizer).eval()


@torch.no_grad()
def logits(model):
    return model(torch.arange(9)[None]).numpy()


class Checkpoint:
    """One of ours: its numbers come from the weights, the sizes and the biases."""

    exact = True
    files = {"config.json": JSON, "model.safetensors": (*HEADER, *BYTES, m.flip_a_bit)}  # noqa: RUF012

    def make(self, folder):
        save_checkpoint(model_of(train_tokenizer([TEXT], 270)), folder)

    def read(self, folder):
        return logits(load_model(folder, "cpu"))


class State:
    """A state of a training run, which carries a checksum: what `--resume` goes on with."""

    exact = True
    place = "step-00000000"
    files = {f"{place}/state.pt": (*BYTES, m.flip_a_bit), f"{place}/config.json": JSON, f"{place}/tokenizer.json": JSON}  # noqa: RUF012

    def make(self, folder):
        (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": f"{TEXT} {n}"}) + "\n" for n in range(16)))
        sizes = {"preset": "mini", "context": 16, "batch_size": 2, "steps": 1}
        run = prepare(TrainConfig(str(folder / "corpus.jsonl"), output=folder, overwrite=True, **sizes))
        for parameter in run.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        run.optimizer.step()  # now it has a state, too
        save_state(run)

    def read(self, folder):
        _, state = checkpoints.read_newest(folder, lambda text: None)
        moments = [values["exp_avg"] for values in state["optimizer"]["state"].values()]
        return torch.cat([value.flatten() for value in [*state["model"].values(), *moments]]).numpy()


class Foreign:
    """nanoGPT's, as torch.save writes it."""

    exact = True
    files = {"ckpt.pt": (*BYTES, m.flip_a_bit)}  # noqa: RUF012

    def make(self, folder):
        from tests.model.foreign.test_nanogpt import nanogpt

        torch.manual_seed(0)
        torch.save(nanogpt()[0], folder / "ckpt.pt")

    def read(self, folder):
        return logits(read_foreign(folder / "ckpt.pt").model)


class Sums:
    """The partial sums of an analysis, which carry a checksum."""

    exact = True
    files = {"rank-0.safetensors": (*HEADER, *BYTES, m.flip_a_bit)}  # noqa: RUF012
    settings = {"corpus": "x", "seed": 0}  # noqa: RUF012

    def __init__(self):
        self.values = {"sum": torch.arange(6, dtype=torch.float64), "count": torch.ones(3, dtype=torch.float64)}

    def state(self):
        return self.values

    def restore(self, state):
        self.values = state

    def make(self, folder):
        ResumeFile(folder, self.settings, every_seconds=0).save(Block(3, 0, 5, "digest"), self)

    def read(self, folder):
        partial, found = ResumeFile(folder, self.settings), Sums()
        partial.restore(found)
        return np.concatenate([found.values["sum"].numpy(), found.values["count"].numpy(), [partial.done[0]]])


class Tokenizer:
    """A tokenizer.json and what stands beside it, which say themselves what they do: they are read or refused."""

    exact = False
    files = {"tokenizer.json": JSON, "tokenizer_config.json": JSON, "added_tokens.json": JSON}  # noqa: RUF012

    def make(self, folder):
        train_tokenizer([TEXT], 270).backend_tokenizer.save(str(folder / "tokenizer.json"))
        decoder = {"0": {"content": END_OF_TEXT, "special": True, "lstrip": False}}
        config = {"bos_token": END_OF_TEXT, "eos_token": {"content": END_OF_TEXT}, "added_tokens_decoder": decoder}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        (folder / "added_tokens.json").write_text(json.dumps({"<x>": vocabulary_size(load_tokenizer(folder))}))

    def read(self, folder):
        return np.array(load_tokenizer(folder).encode(TEXT))


class Corpora:
    """Small corpora, read to their ends or refused."""

    exact = False
    files = {"a.jsonl": (*BYTES, m.flip_a_bit), "b.csv": BYTES, "c.txt": BYTES}  # noqa: RUF012

    def make(self, folder):
        (folder / "a.jsonl").write_text("".join(json.dumps({"text": f"{TEXT} {n}"}) + "\n" for n in range(5)))
        (folder / "b.csv").write_text("text,n\n" + "".join(f'"{TEXT} {n}",{n}\n' for n in range(5)))
        (folder / "c.txt").write_text(TEXT * 3)

    def read(self, folder):
        return np.array([len(document.text) for document in open_corpus(folder)])


TARGETS = {kind.__name__.lower(): kind for kind in (Checkpoint, State, Foreign, Sums, Tokenizer, Corpora)}
