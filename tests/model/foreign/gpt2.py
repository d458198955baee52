"""A small random GPT-2 of Hugging Face's, and the older of the two ways it is stored."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

SIZES = {
    "vocab_size": 41,
    "n_positions": 11,
    "n_embd": 12,
    "n_layer": 2,
    "n_head": 3,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def gpt2(seed=0, **changes):
    """A GPT-2 with large random weights, biases included."""
    model = GPT2LMHeadModel(GPT2Config(**{**SIZES, **changes}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def pytorch_bin(model, folder):
    model.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
