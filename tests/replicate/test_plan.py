"""Plans: which runs there are, and what is refused."""

from dataclasses import asdict, replace

import pytest
import yaml

from interp.errors import InterpError
from interp.evals.puzzles import SETS, generate
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.replicate.plan import Plan, read_plan, scale
from interp.train.config import TrainConfig
from interp.train.setup import model_config, resolved


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_every_scale_has_the_whole_matrix_with_three_seeds_in_runs_of_different_names(name):
    cells = scale(name).cells()
    further = scale(name).further_seeds
    assert further == ({"adamw": [3, 4], "ecd": [3, 4]} if name == "tiny" else {})
    matrix = {(cell.optimizer, cell.variant, cell.seed) for cell in cells if cell.ablation == "none"}
    assert len(matrix) == 4 * 3 * 3 + 2 * 3 * len(further)
    assert {cell[0] for cell in matrix} == {"adamw", "soap", "sgdm", "ecd"}
    assert {cell[1] for cell in matrix} == {"symmetric", "bq", "bqbv"}
    assert len({cell.name for cell in cells}) == len(cells)


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_every_ablation_changes_the_model_of_its_run(name):
    plan = scale(name)
    for cell in plan.cells():
        if cell.ablation != "none":
            changed, kept = plan.training(cell), {**plan.settings, "optimizer": cell.optimizer, "variant": cell.variant}
            same = model_config(TrainConfig(**changed)) == model_config(TrainConfig(**kept, seed=cell.seed))
            assert same == cell.ablation.startswith("published-rate")  # which changes how it is trained
            assert changed != {**kept, "seed": cell.seed}


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_every_family_has_as_many_puzzles_as_a_scale_puts(name):
    asked = scale(name).measuring
    assert len(generate(seed=asked.seed, n_items=asked.puzzles)) == asked.puzzles * len(SETS["basic"])


def test_the_scale_paper_has_the_paper_s_sizes_and_settings():
    plan = scale("paper")
    for cell in plan.cells():
        config = TrainConfig(**plan.training(cell))
        assert (config.tokens, config.context, config.batch_size) == (500_000_000, 512, 8)
        assert (config.schedule, config.warmup, config.batch_validation_every) == ("constant", 0.0, 1000)
        assert (
            config.preset_settings
            == f"paper-{config.activation}"
            == f"paper-{'prelu' if cell.ablation == 'prelu' else 'gelu'}"
        )
        own = resolved(config)
        assert plan.learning_rates[cell.optimizer] == own.lr and own.clip == 0.0
        assert config.mean_q == ("0" if cell.ablation == "zero-mean" else None)
    cfg = model_config(config)
    assert (cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_vocab) == (12, 12, 768, 50304)


def test_seeds_come_one_after_the_other_and_the_matrix_before_the_ablations():
    cells = scale("tiny").cells()
    first = next(i for i, cell in enumerate(cells) if cell.ablation != "none")
    assert [cell.seed for cell in cells[:first]] == [0] * 12 + [1] * 12 + [2] * 12 + [3, 3, 3, 4, 4, 4] * 2
    assert all(cell.ablation != "none" for cell in cells[first:])


def test_some_optimizers_may_have_further_seeds(small_plan):
    plan = small_plan(optimizers={"adamw": {}, "ecd": {}}, learning_rates={"adamw": 0.01, "ecd": 1.0})
    more = replace(plan, further_seeds={"ecd": [0, 1]})
    assert [cell.name for cell in more.cells()] == [
        *(cell.name for cell in plan.cells()), "ecd-symmetric-seed1", "ecd-bq-seed1",
    ]  # fmt: skip


def test_the_grid_has_the_same_shape_for_every_optimizer():
    plan = scale("tiny")
    assert plan.tuning is not None
    shapes = {tuple(rate / plan.tuning.centre[name] for rate in plan.tuning.grid(name)) for name in plan.optimizers}
    assert shapes == {(0.25, 0.5, 1, 2, 4)}
    trials = plan.trials()
    assert len(trials) == 4 * 5
    assert {cell.variant for cell, _ in trials} == {"symmetric"} and not {cell.seed for cell, _ in trials} & set(
        plan.seeds
    )


def test_a_plan_survives_its_way_to_disk(tmp_path):
    plan = scale("tiny")
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(asdict(plan)))
    assert read_plan(tmp_path / "plan.yaml") == plan


def test_a_limited_plan_has_the_same_runs_with_so_many_steps():
    whole, short = scale("paper"), scale("paper").limited(2)
    assert [cell.name for cell in short.cells()] == [cell.name for cell in whole.cells()]
    assert all(TrainConfig(**short.training(cell)).total_steps(512) == 2 for cell in short.cells())


WRONG = {
    "which a run of it cannot have; did you mean 'batch_size'": {"settings": {"batchsize": 8}},
    "which a run of it cannot have": {"settings": {"seed": 1}},
    "gives sgdm no learning rate": {"optimizers": {"adamw": {}, "sgdm": {}}},
    "has 'optimisers', which plan has not; did you mean 'optimizers'": {"optimisers": {}},
    "gives 3 as tuning": {"tuning": 3},
    "is no plan": {"ablations": [{"name": "x"}]},
    "Both 3 steps and 40 tokens": {"settings": {"steps": 3, "tokens": 40}},
}


@pytest.mark.parametrize("told", WRONG)
def test_a_plan_that_cannot_be_is_refused_in_a_sentence(small_plan, tmp_path, told):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**asdict(small_plan()), **WRONG[told]}))
    with pytest.raises(InterpError, match=told):
        read_plan(tmp_path / "plan.yaml")


def test_models_of_one_seed_begin_with_the_same_weights_whatever_the_variant():
    plan = scale("tiny")
    models = [
        HookedSymmetryBrokenTransformer(model_config(TrainConfig(**plan.training(cell)))).state_dict()
        for cell in plan.cells()
        if cell.seed == 1 and cell.optimizer == "adamw" and cell.ablation == "none"
    ]
    assert all(
        value.equal(models[0][name]) for other in models[1:] for name, value in other.items() if name in models[0]
    )


def test_plans_of_one_s_own_are_made_in_python_too(small_plan):
    assert isinstance(small_plan(), Plan)
    assert [cell.name for cell in small_plan().cells()] == ["adamw-symmetric-seed0", "adamw-bq-seed0"]
