"""A dataclass whose fields are a command's options."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from interp.errors import InterpError
from interp.options import argument, check_at_least_one, command_from, option


@dataclass(frozen=True)
class Settings:
    schemes: str = option("pos", "Which classes.")
    batch_size: int | None = option(None, "Contexts per forward pass.", panel="Speed")
    bias: Literal["mean", "none"] = option("mean", "Which biases.")
    model: Any = field(default=None, repr=False)  # is no option

    def __post_init__(self) -> None:
        check_at_least_one(self, "batch_size")


@dataclass(frozen=True)
class Command(Settings):
    checkpoints: list[str] = argument("Which checkpoints.", ["tiny"])
    schemes: str = option("pos,function", "Which classes, separated by commas.")
    output: str = option("here", "Where to.", "-o", "--output")


def call(*words):
    found, app = [], typer.Typer()
    app.command()(command_from(Command, found.append, "Do it."))
    return found, CliRunner().invoke(app, words)


def test_a_frozen_config_inherits_the_options_of_its_settings_and_may_change_one():
    (config,), result = call("one", "two", "--batch-size", "3", "--bias", "none", "-o", "there")
    assert result.exit_code == 0
    assert config == Command("pos,function", 3, "none", None, ["one", "two"], "there")


def test_what_is_not_typed_has_its_default_and_no_two_configs_share_a_list():
    (config,), _ = call()
    assert asdict(config) == asdict(Command()) and config.checkpoints == ["tiny"]
    assert Command().checkpoints is not Command().checkpoints


def test_the_texts_of_the_fields_are_the_help_and_can_be_read_from_the_class():
    texts = {f.name: f.metadata["help"] for f in fields(Command) if f.metadata}
    shown = " ".join(call("--help")[1].output.replace("│", " ").split())
    assert list(texts) == ["schemes", "batch_size", "bias", "checkpoints", "output"]
    assert all(text in shown for text in texts.values())
    assert "Speed" in shown and "--model" not in shown


@pytest.mark.parametrize("value", [0, -1])
def test_a_number_below_one_is_refused_in_python_and_on_the_command_line(value):
    with pytest.raises(InterpError, match=f"batch_size is {value}; at least 1 is needed."):
        Settings(batch_size=value)
    assert call("--batch-size", str(value))[1].exit_code == 1
