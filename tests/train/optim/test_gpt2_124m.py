"""GPT-2-small trains two steps on a CPU with every optimizer; what the optimizers keep is counted."""

import pytest
import torch

from interp.model.config import preset
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.optim.registry import OPTIMIZERS, build_optimizer
from tests.bench.optimizers import soap_elements, state_bytes

STATES = {"adamw": 2, "sgdm": 1, "ecd": 1, "ecdsep": 1, "bbi": 1}  # numbers kept for each parameter
NAMES = tuple(reversed(OPTIMIZERS))  # the energy-conserving ones first, while the loss is above their floor
SOAP_LIMIT = 512  # the paper's 10,000 takes minutes of eigenbases on a CPU, a larger one than 512 a few seconds a step


@pytest.mark.slow
def test_two_steps_of_gpt2_small():
    model = HookedSymmetryBrokenTransformer(preset("gpt2-124m", "bqbv")).train()
    parameters, generator = list(model.parameters()), torch.Generator().manual_seed(0)
    size = sum(parameter.numel() for parameter in parameters)
    assert 124e6 < size < 125e6
    for name in NAMES:
        lr = OPTIMIZERS[name].defaults["lr"]
        arguments = {"max_precondition_dim": SOAP_LIMIT} if name == "soap" else {}
        optimizer = build_optimizer(name, parameters, lr, arguments=arguments)
        before = parameters[0].detach()[:50].clone()
        for step in range(2):
            model.draw_biases(step)
            optimizer.zero_grad(set_to_none=False)  # half a gigabyte that need not be fetched anew
            loss = model(torch.randint(model.cfg.d_vocab, (1, 8), generator=generator), return_type="loss")
            loss.backward()
            optimizer.step(lambda loss=loss: loss.detach())
            assert loss.isfinite(), f"{name}, step {step}"
        assert not torch.equal(parameters[0].detach()[:50], before) and parameters[0].isfinite().all()
        expected = soap_elements(parameters, SOAP_LIMIT) if name == "soap" else STATES[name] * size
        assert state_bytes(optimizer) == pytest.approx(4 * expected, rel=1e-4)
        if name == "soap":
            assert expected > 2 * size
