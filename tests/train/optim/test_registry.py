"""The registry builds every optimizer with the paper's hyperparameters, and says what is wrong with other arguments."""

import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from interp.errors import InterpError
from interp.train.__main__ import app
from interp.train.optim.registry import OPTIMIZERS, OptimizerSpec, build_optimizer, parse_arguments
from tests.train.optim.cases import bowl, parameters


class Sign(torch.optim.Optimizer):
    """A new optimizer, as somebody adds one."""

    def __init__(self, params, lr: float, weight_decay: float = 0.0, power: float = 1.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "power": power})


def test_an_optimizer_is_added_by_its_class_and_one_entry(monkeypatch):
    spec = OptimizerSpec(f"{Sign.__module__}:Sign", {"lr": 0.1, "weight_decay": 0.2, "power": 0.5}, small_lr=0.3)
    monkeypatch.setitem(OPTIMIZERS, "sign", spec)
    monkeypatch.setitem(sys.modules, Sign.__module__, sys.modules[__name__])
    matrices, _ = build_optimizer("sign", parameters(), 0.1).param_groups
    assert (matrices["power"], matrices["weight_decay"]) == (0.5, 0.2)
    assert build_optimizer("sign", parameters(), 0.1, None, {"power": 2.0}).defaults["power"] == 2.0
    with pytest.raises(InterpError, match=r"sign has no argument 'pover', only power .*did you mean 'power'"):
        build_optimizer("sign", parameters(), 0.1, None, {"pover": 2.0})


def test_the_command_offers_the_optimizers_of_the_registry():
    refused = CliRunner().invoke(app, ["--optimizer", "none"])
    assert refused.exit_code == 2
    assert all(f"'{name}'" in refused.stderr for name in OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_defaults_reach_the_optimizer_and_matrices_alone_decay(name):
    optimizer = build_optimizer(name, parameters(), OPTIMIZERS[name].defaults["lr"])
    matrices, vectors = optimizer.param_groups
    assert [p.ndim for p in matrices["params"]] == [2, 3] and [p.ndim for p in vectors["params"]] == [1]
    for key, value in OPTIMIZERS[name].defaults.items():
        assert matrices[key] == value
        assert vectors[key] == (0.0 if key == "weight_decay" else value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_loss_with_its_small_learning_rate(name):
    params = parameters()
    arguments = {"F0": -0.5} if name.startswith("ecd") else {"v0": -0.5, "deltaEn": 1.0} if name == "bbi" else {}
    optimizer = build_optimizer(name, params, OPTIMIZERS[name].small_lr, arguments=arguments)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = bowl(params)
        loss.backward()
        optimizer.step(lambda loss=loss: loss)
        losses.append(loss.item())
    assert min(losses) < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("name", "lr", "arguments"), [("adamw", 0.3, {}), ("sgdm", 0.1, {}), ("ecd", 3.0, {"F0": -0.5})]
)
def test_half_precision_moves_as_far_as_single_precision_does(name, lr, arguments):
    moved = []
    for dtype in (torch.float32, torch.bfloat16):
        params = parameters(dtype=dtype, shapes=[(70,)])
        before = params[0].detach().clone()
        optimizer = build_optimizer(name, params, lr, arguments=arguments)
        for _ in range(5):
            optimizer.zero_grad()
            loss = bowl(params)
            loss.backward()
            optimizer.step(lambda loss=loss: loss)
        moved.append((params[0] - before).detach().float())
    assert torch.dist(*moved) < 0.1 * moved[0].norm()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adamw", {"betas": (0.8, 0.9), "eps": 1e-6, "fused": None, "foreach": False}),
        ("sgdm", {"momentum": 0.5, "nesterov": False}),
        ("soap", {"precondition_frequency": 3, "max_precondition_dim": 8, "shampoo_beta": None, "betas": (0.9, 0.9)}),
        ("ecd", {"eta": 50, "F0": 1.5, "nu": 0.1, "projection": "global", "conserve_energy": False}),
        ("ecdsep", {"eta": 2, "s": 0.0, "deltaEn": 0.5}),
        ("bbi", {"v0": 1, "threshold": 7}),
    ],
)
def test_arguments_override_the_defaults_and_weight_decay_has_its_own(name, arguments):
    decay = 0.0 if name == "bbi" else 0.3
    optimizer = build_optimizer(name, parameters(), 0.2, decay, arguments)
    for group, expected in zip(optimizer.param_groups, (decay, 0.0), strict=True):
        assert group["lr"] == 0.2 and group["weight_decay"] == expected
        assert {key: group[key] for key in arguments} == arguments


@pytest.mark.parametrize(
    ("name", "lr", "arguments", "said"),
    [
        ("adam", 0.1, {}, "no optimizer 'adam', only adamw, .*; did you mean 'adamw'?"),
        ("ecd", 0.1, {"etta": 3}, "ecd has no argument 'etta', only eta, F0, nu, .*; did you mean 'eta'?"),
        ("soap", 0.1, {"lr": 3}, "no argument 'lr', only betas, .*have options of their own"),
        ("ecd", 0.1, {"eta": "much"}, "eta='much' does not fit ecd; eta is float"),
        ("ecd", 0.1, {"nu": True}, "nu=True does not fit"),
        ("ecd", 0.1, {"conserve_energy": 1}, "conserve_energy=1 does not fit"),
        ("ecd", 0.1, {"projection": "rows"}, "'tensor', 'global'"),
        ("ecd", 0.1, {"eta": -1.0}, "eta of ECD is -1.0; it must be above 0"),
        ("adamw", 0.1, {"betas": (0.9,)}, "does not fit"),
        ("adamw", 0.1, {"betas": (0.9, 2.0)}, "cannot be built with .*Invalid beta"),
        ("adamw", 0.1, {"foreach": True}, "cannot be built with .*fused"),
        ("sgdm", -0.1, {}, "cannot be built with lr -0.1"),
        ("soap", 0.1, {"precondition_frequency": 2.5}, "precondition_frequency is int"),
        ("soap", 0.1, {"precondition_frequency": 0}, "cannot be built"),
        ("bbi", 0.1, {"threshold": 0}, "threshold of BBI is 0; it must not be below 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(name, lr, arguments, said):
    with pytest.raises(InterpError, match=said):
        build_optimizer(name, parameters(), lr, arguments=arguments)


def test_bbi_is_not_built_with_weight_decay():
    with pytest.raises(InterpError, match="no weight decay"):
        build_optimizer("bbi", parameters(), 0.1, 0.1)


def test_the_text_of_arguments_becomes_values():
    assert parse_arguments("") == parse_arguments("  ") == {}
    text = "eta=50, F0=1.5,betas=(0.9, 0.99),projection=global,nesterov=False,conserve_energy=true,fused=None,nu=-1e-5,x='a'"
    values = {"eta": 50, "F0": 1.5, "betas": (0.9, 0.99), "projection": "global", "nesterov": False}
    assert parse_arguments(text) == {**values, "conserve_energy": True, "fused": None, "nu": -1e-5, "x": "a"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("eta", "'eta' in 'eta' is not name=value"),
        ("eta=1,,F0=2", "'' in"),
        ("3=4", "not name=value"),
        ("eta=1,eta=2", "gives eta twice"),
        ("eta=", "The value '' of eta"),
        ("eta=1+x", "neither a number, a word nor a tuple"),
        ("betas=(0.9", "neither a number"),
        ("eta=__import__('os').getcwd()", "neither a number"),
    ],
)
def test_junk_in_the_text_is_refused_in_a_sentence(text, said):
    with pytest.raises(InterpError, match=said):
        parse_arguments(text)


@pytest.mark.slow
def test_the_registry_loads_torch_and_soap_only_to_build():
    code = "import sys, interp.train.optim.registry as r; print({'torch', 'pytorch_optimizer'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
    code = (
        "import sys, torch; from interp.train.optim.registry import build_optimizer\n"
        "build_optimizer('ecd', [torch.zeros(2, 2)], 1.0); print('pytorch_optimizer' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
