import pytest

from tests.train.curves.histories import rows_of, write


@pytest.fixture
def run(tmp_path):
    return lambda name="run", steps=300, **more: write(tmp_path / name / "training.jsonl", rows_of(steps, **more))
