"""What `pip install` brings: the package with its bundled models, from a wheel, in a folder of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from interp.model.checkpoint import BUNDLED

ROOT = Path(__file__).parents[1]
LOOK = """
import json, sys
import interp
from interp.model.checkpoint import BUNDLED, read_training, tensors_sha256
text = ["In 1905 Albert Einstein published four papers. Nobody had expected it."] * 3
models = {name: interp.load_model(name) for name in json.loads(sys.argv[1])}
sums = {name: tensors_sha256(model.state_dict()) for name, model in models.items()}
result = interp.amplification(models["tiny-bqbv"], text, "surface", workers=0)
page = result.to_html("a.html")
where = [interp.__file__, str(BUNDLED)]
print(json.dumps({"where": where, "sums": sums, "rows": len(result.heads), "page": page.stat().st_size}))
"""


@pytest.mark.slow
def test_an_installed_package_loads_and_measures_its_bundled_models(tmp_path):
    import interp
    from interp.model.checkpoint import tensors_sha256

    built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(built, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    target = tmp_path / "installed"
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True)
    assert not [path for path in target.iterdir() if path.name in ("tests", "docs", "notebooks", "checkpoints")]
    names = sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))
    assert len(names) == 5
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    environment = {
        "PYTHONPATH": str(target),
        "HF_HUB_OFFLINE": "1",
        "PATH": "",
        "OMP_NUM_THREADS": "1",
        "HOME": str(fresh),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOOK, json.dumps(names)], cwd=fresh, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(Path(path).is_relative_to(target) for path in found["where"])
    assert found["sums"] == {name: tensors_sha256(interp.load_model(name).state_dict()) for name in names}
    assert found["rows"] > 24 and found["page"] > 1e6
