"""The stages as DVC runs them: nothing twice, and what one command made the other one knows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.index.state import State
from tests.training.world import SETTINGS, make_world

STAGES = ["pairs@handbook", "finetune@handbook", "evaluate_model@handbook"]


def test_dvc_repro_does_what_is_new_and_the_command_leaves_nothing_to_do(tmp_path: Path, database: str) -> None:
    root = tmp_path / "workspace"
    environment = {**os.environ, "SNAPDEX_DATABASE_URL": database, "SNAPDEX_HOME": str(root), "DVC_NO_ANALYTICS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def call(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def set_params(**sections: dict[str, Any] | list[str]) -> None:
        params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
        for name, values in sections.items():
            params[name] = params.get(name, {}) | values if isinstance(values, dict) else values
        (root / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")

    root.mkdir()
    call("pipelines.cli", "init", ".")
    (root / "params.yaml").rename(root / "params.init")
    make_world(State.make(root, database))
    (root / "params.init").replace(root / "params.yaml")
    chosen: dict[str, dict[str, Any]] = {}
    for setting in SETTINGS:
        key, _, value = setting.partition("=")
        section, _, name = key.partition(".")
        chosen.setdefault(section, {})[name] = yaml.safe_load(value)
    chosen["embed"]["model"] = f"path:{root / 'base'}"
    set_params(**chosen, models=["handbook"], collect={"sources": ["docs"]}, chunk={"max_tokens": 32, "min_tokens": 0})

    report = json.loads(call("pipelines.cli", "run", "--json"))
    assert report["version"] == 1
    told = json.loads(call("pipelines.cli", "finetune", "embedding", "--json"))
    assert told["passed"]
    unchanged = call("dvc", "repro", *STAGES)
    assert all(f"Stage '{stage}' didn't change, skipping" in unchanged for stage in STAGES)

    metrics = root / "data" / "metrics" / "models" / "handbook.json"
    first = json.loads(metrics.read_text("utf-8"))
    set_params(finetune={"seed": 4, "epochs": 2})
    changed = call("dvc", "repro", *STAGES)
    assert "Running stage 'finetune@handbook'" in changed
    second = json.loads(metrics.read_text("utf-8"))
    assert second["fingerprint"] != first["fingerprint"]
    assert second["corpora"]["golden.jsonl"]["before"] == first["corpora"]["golden.jsonl"]["before"]
    again = call("dvc", "repro", *STAGES)
    assert all(f"Stage '{stage}' didn't change, skipping" in again for stage in STAGES)
