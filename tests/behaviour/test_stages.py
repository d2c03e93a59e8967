"""The stages of a language model as DVC runs them: nothing twice, and what the command made they know."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.behaviour.world import chats, config_of, write_rows

STAGES = ["examples@house", "tune@house", "evaluate_behaviour@house"]


def test_dvc_repro_does_what_is_new_and_the_command_leaves_nothing_to_do(base: Path, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    environment = {**os.environ, "SNAPDEX_HOME": str(root), "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def call(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def set_params(**sections: dict[str, Any]) -> None:
        params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
        for name, values in sections.items():
            params[name] = (params.get(name) or {}) | values
        (root / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")

    root.mkdir()
    call("pipelines.cli", "init", ".")
    shutil.copytree(base, root / "base")
    write_rows(root / "chats.jsonl", chats()[:120])
    section = config_of(general="", epochs=3, held_out=0.3, metric="f1").sft.model_dump(
        mode="json", exclude_defaults=True
    )
    set_params(
        sft=section,
        generate={"threads": 1, "concurrency": 20},
        language_models={"house": {"kind": "sft", "data": "chats.jsonl"}},
    )
    told = json.loads(call("pipelines.cli", "finetune", "sft", "house", "--json"))
    assert told["passed"], told["evaluation"]["reason"]
    unchanged = call("dvc", "repro", *STAGES)
    assert all(f"Stage '{stage}' didn't change, skipping" in unchanged for stage in STAGES)

    metrics = root / "data" / "metrics" / "models" / "house.json"
    first = json.loads(metrics.read_text("utf-8"))
    set_params(sft={"seed": 4, "epochs": 1})
    assert "Running stage 'tune@house'" in call("dvc", "repro", *STAGES)
    assert json.loads(metrics.read_text("utf-8"))["fingerprint"] != first["fingerprint"]
    again = call("dvc", "repro", *STAGES)
    assert all(f"Stage '{stage}' didn't change, skipping" in again for stage in STAGES)
