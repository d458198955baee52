"""The plan of a replication: which runs there are, with what settings; read from one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain, product
from pathlib import Path
from typing import Any

from interp.errors import InterpError, nearest
from interp.files import writing
from interp.options import check_border, read_mapping
from interp.provenance import Summarized
from interp.replicate.config import ReplicateConfig
from interp.train.config import TrainConfig

PLAN = Path("plan.yaml")  # in the replication's folder
SCALES = Path(__file__).parent / "scales"
MATRIX = "none"  # the ablation of the runs that are the matrix itself
RESERVED = {
    "corpus", "output", "resume", "overwrite", "variant", "optimizer", "seed", "lr", "tokenizer", "border", "text_field"
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One run: an optimizer, a variant of biases, a seed, and what an ablation changes."""

    optimizer: str
    variant: str
    seed: int
    ablation: str = MATRIX
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        ablation = [self.ablation] if self.ablation != MATRIX else []
        return "-".join([self.optimizer, self.variant, *ablation, f"seed{self.seed}"])


@dataclass(frozen=True)
class Ablation:
    """Runs that differ from runs of the matrix in some settings."""

    name: str
    optimizers: list[str]
    variants: list[str]
    seeds: list[int]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Tuning:
    """Short runs of the symmetric variant that choose each optimizer's learning rate: `factors` times its `centre`."""

    factors: list[float]
    centre: dict[str, float]
    seed: int
    settings: dict[str, Any]

    def grid(self, optimizer: str) -> list[float]:
        """Return the learning rates to try, from the lowest."""
        return sorted(float(f"{factor * self.centre[optimizer]:.6g}") for factor in self.factors)


@dataclass(frozen=True)
class Measuring:
    """What is measured of every trained run: amplification on held-out text with its controls, uses of b_Q, and puzzles."""

    max_tokens: int = 40_000
    nulls: int = 0  # random directions of the same length, in a run's heads.parquet only: they say nothing of classes
    puzzles: int = 200  # of each family
    seed: int = 0
    uses_tokens: int = 0  # of text on which is measured what b_Q is used for; 0 does not measure it
    controls: int = 8  # directions of equal spread beside it


@dataclass(frozen=True, repr=False)
class Plan(Summarized):
    """A replication; see `interp/replicate/scales/tiny.yaml` for each field.

    Raises:
        InterpError: settings that `interp.train` does not have, or an optimizer without learning rate.
    """

    about: str
    corpus: str
    settings: dict[str, Any]
    optimizers: dict[str, dict[str, Any]]
    variants: list[str]
    seeds: list[int]
    further_seeds: dict[str, list[int]] = field(default_factory=dict)  # of some optimizers' runs of the matrix
    documents: int | None = None
    text_field: str = "text"
    tokenizer: str | None = None
    border: str | None = None
    vocabulary: int = 4096
    learning_rates: dict[str, float] = field(default_factory=dict)
    tuning: Tuning | None = None
    ablations: list[Ablation] = field(default_factory=list)
    measuring: Measuring = field(default_factory=Measuring)

    def __post_init__(self) -> None:
        check_border(self)
        tuned = self.tuning.centre if self.tuning else {}
        for name in self.optimizers:
            if name not in self.learning_rates and name not in tuned:
                raise InterpError(f"The plan gives {name} no learning rate; name one under learning_rates or tuning.")
        known = {f.name for f in fields(TrainConfig)} - RESERVED
        parts = [self.settings, *self.optimizers.values(), self.tuning.settings if self.tuning else ()]
        for name in chain(*parts, *(ablation.settings.keys() - {"lr"} for ablation in self.ablations)):
            if name not in known:
                told = f"The plan has the setting {name!r}, which a run of it cannot have{nearest(name, known)}"
                raise InterpError(told)
        for cell in self.cells():  # values that do not go together are refused now, not after hours
            TrainConfig(**self.training(cell))

    def _summary(self) -> dict[str, str]:
        return {
            "about": self.about, "corpus": self.corpus,
            "runs": f"{len(self.cells()):,}: {', '.join(self.optimizers)}; {', '.join(self.variants)}; seeds "
            f"{', '.join(map(str, self.seeds))}; {len(self.ablations)} ablations",
            "next": ".cells(), .trials(), .text()",
        }  # fmt: skip

    def cells(self) -> list[Cell]:
        """Return all runs, in the order in which they are trained: seed by seed, the matrix before the ablations."""
        further = [
            (seed, name) for name, seeds in self.further_seeds.items() for seed in seeds if seed not in self.seeds
        ]
        matrix = [*product(self.seeds, self.optimizers), *further]
        return [Cell(name, variant, seed) for seed, name in matrix for variant in self.variants] + [
            Cell(optimizer, variant, seed, ablation.name, ablation.settings)
            for ablation in self.ablations
            for seed, optimizer, variant in product(ablation.seeds, ablation.optimizers, ablation.variants)
        ]

    def training(self, cell: Cell) -> dict[str, Any]:
        """Return the settings of `interp.train` for a run, without corpus, output and learning rate."""
        own = {"optimizer": cell.optimizer, "variant": cell.variant, "seed": cell.seed}
        return {**self.settings, **self.optimizers[cell.optimizer], **cell.changes, **own}

    def trials(self) -> list[tuple[Cell, float]]:
        """Return the short runs that choose learning rates, each with its rate."""
        if self.tuning is None:
            return []
        settings, seed = self.tuning.settings, self.tuning.seed
        return [
            (Cell(optimizer, "symmetric", seed, f"lr{rate:g}", settings), rate)
            for optimizer in self.optimizers
            if optimizer not in self.learning_rates
            for rate in self.tuning.grid(optimizer)
        ]

    def text(self) -> str:
        """Return the plan as YAML."""
        import yaml  # late, so that --help stays quick

        return yaml.safe_dump(asdict(self), sort_keys=False)

    def limited(self, steps: int) -> Plan:
        """Return the plan with runs of so many steps, measured on little text: to see whether everything works."""
        short = {"tokens": None, "steps": steps, "evaluate_every": steps, "validation_tokens": 2048}
        if self.settings.get("preset_settings") or self.settings.get("batch_validation_every"):
            short["batch_validation_every"] = steps
        tuning = self.tuning and replace(self.tuning, settings={**self.tuning.settings, **short})
        few = {name: min(getattr(self.measuring, name), 2048) for name in ("max_tokens", "uses_tokens")}
        measuring = replace(self.measuring, **few, nulls=4, puzzles=4, controls=2)
        return replace(self, settings={**self.settings, **short}, tuning=tuning, measuring=measuring)


def plan_of(config: ReplicateConfig) -> Plan:
    """Return the plan that the options name, with what they change.

    Raises:
        InterpError: the plan or a seed is none.
    """
    stored = config.output / PLAN
    if config.plan:
        plan = read_plan(config.plan)
    else:
        plan = read_plan(stored) if config.scale is None and stored.is_file() else scale(config.scale or "tiny")
    if config.seeds:
        try:
            seeds = [int(part) for part in config.seeds.split(",")]
        except ValueError:
            raise InterpError(f"--seeds is {config.seeds!r}; give whole numbers with commas between them.") from None
        ablations = [replace(ablation, seeds=seeds) for ablation in plan.ablations]
        plan = replace(plan, seeds=seeds, further_seeds={}, ablations=ablations)
    plan = replace(plan, corpus=_found(config.corpus or plan.corpus), text_field=config.text_field or plan.text_field)
    if config.tokenizer:
        plan = replace(plan, tokenizer=_found(config.tokenizer), border=config.border)
    return plan.limited(config.max_steps) if config.max_steps else plan


def read_plan(path: Path) -> Plan:
    """Read a plan from a YAML, TOML or JSON file.

    Raises:
        InterpError: the file is missing or broken, or does not hold a plan.
    """
    values = read_mapping(path)
    nested = {"tuning": Tuning, "measuring": Measuring}
    values |= {name: _made(kind, values[name], path) for name, kind in nested.items() if values.get(name) is not None}
    values["ablations"] = [_made(Ablation, ablation, path) for ablation in values.get("ablations") or []]
    return _made(Plan, values, path)


def scale(name: str) -> Plan:
    """Return one of the plans that come with the package: tiny, small or paper."""
    return read_plan(SCALES / f"{name}.yaml")


def store_plan(plan: Plan, path: Path) -> None:
    """Write a plan as YAML; processes of one replication read it from there."""
    with writing(path) as beside:
        beside.write_text(plan.text(), encoding="utf-8")


def _made(kind: type, values: Any, path: Path) -> Any:
    known = [f.name for f in fields(kind)]
    if not isinstance(values, dict):
        raise InterpError(f"{path} gives {values!r} as {kind.__name__.lower()}; expected {', '.join(known)}.")
    for name in values.keys() - set(known):
        raise InterpError(f"{path} has {name!r}, which {kind.__name__.lower()} has not{nearest(str(name), known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise InterpError(f"{path} is no plan ({error}); see {SCALES / 'tiny.yaml'}.") from error


def _found(name: str) -> str:
    """A path in full, because jobs run in the replication's folder; a name as it is."""
    return str(Path(name).resolve()) if Path(name).exists() else name
