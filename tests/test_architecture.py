"""The direction of dependencies, told from the imports; and what `dvc.yaml` says about them."""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import yaml

from pipelines.config import LanguageModel

PROJECT = Path(__file__).resolve().parents[1]
STAGES = ("collect", "parse", "chunk", "embed", "index", "evaluate")
ALLOWED_BETWEEN_STAGES = {  # these need the encoder, on first use
    ("pipelines.index.reader", "pipelines.embed"),
    ("pipelines.chunk", "pipelines.embed"),
}
ENCODES = {"chunk", "evaluate", "pairs", "finetune", "evaluate_model"}  # stages of dvc.yaml that come to it
ONLY_IN = {  # heavy dependency: the only places that may import it
    "prefect": ("flows",),
    "psycopg": ("pipelines.index",),
    "pgvector": ("pipelines.index",),
    "torch": ("pipelines.embed", "pipelines.finetune", "pipelines.generate", "pipelines.tune"),
    "sentence_transformers": ("pipelines.embed", "pipelines.finetune"),
    "datasets": ("pipelines.finetune", "pipelines.tune"),
    "peft": ("pipelines.finetune", "pipelines.generate", "pipelines.tune"),
    "unstructured": ("pipelines.parse",),
    "click": ("pipelines.cli",),
    "rich": ("pipelines.cli",),
    "dvc": ("pipelines.record",),
    "mcp": ("pipelines.mcp",),
    "langchain_core": ("pipelines.langchain",),
    "llama_index": ("pipelines.llamaindex",),
    "fastapi": ("pipelines.serve",),
    "starlette": ("pipelines.serve",),
    "uvicorn": ("pipelines.serve",),
    "prometheus_client": ("pipelines.serve",),
}
HEAVY = (
    "torch",
    "unstructured",
    "prefect",
    "dvc",
    "mlflow",
    "sentence_transformers",
    "langchain_core",
    "llama_index",
    "mcp",
)
LOADS_LIBRARIES = {
    "pipelines.finetune.loop",
    "pipelines.finetune.trainer",
    "pipelines.tune.trainer",
}  # imported when training begins: its libraries write files themselves
LONGEST_MODULE = 400
MAY_SUPPRESS = {"pipelines.models.resolve"}  # a look-up that only makes the hint of an error better


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path for root in ("pipelines", "flows") for path in sorted((PROJECT / root).rglob("*.py"))
}


@cache
def syntax(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text("utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Every name that a module imports anywhere, also inside functions; first-party ones as the module they are in."""
    found = set()
    for node in ast.walk(syntax(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports are not used"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in SOURCES else node.module for name in inner}
    return frozenset(found)


def first_party(module: str) -> set[str]:
    """The modules of ours that importing this one brings in, the packages above them included."""
    return {name for name in imports(module) if name in SOURCES}


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def stage_of(module: str) -> str | None:
    return next((stage for stage in STAGES if is_within(module, f"pipelines.{stage}")), None)


def test_stages_do_not_import_each_other():
    wrong = {
        (module, name)
        for module in SOURCES
        for name in first_party(module)
        if stage_of(module) and stage_of(name) and stage_of(module) != stage_of(name)
    }
    assert wrong <= ALLOWED_BETWEEN_STAGES


@pytest.mark.parametrize(("module", "stage"), sorted(ALLOWED_BETWEEN_STAGES))
def test_an_exception_between_stages_is_lazy(module, stage):
    top = [node for node in syntax(module).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any(stage in ast.unparse(node) for node in top)


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_heavy_dependency_has_one_place(package):
    wrong = {
        module
        for module in SOURCES
        if any(is_within(name, package) for name in imports(module))
        and not any(is_within(module, place) for place in ONLY_IN[package])
    }
    assert wrong == set()


def test_mlflow_has_one_place_to_log_to_and_one_to_read_models_from():
    users = {module for module in SOURCES if any(is_within(name, "mlflow") for name in imports(module))}
    logging = {module for module in users if is_within(module, "pipelines.tracking")}
    assert logging and users - logging == {"pipelines.models.resolve"}


def test_pipelines_do_not_know_flows_and_stages_do_not_know_the_command_line():
    for module in SOURCES:
        if is_within(module, "pipelines"):
            assert not any(is_within(name, "flows") for name in imports(module)), module
        if not is_within(module, "pipelines.cli"):
            assert not any(is_within(name, "pipelines.cli") for name in imports(module)), module


def test_importing_does_no_work(tmp_path):
    """Every module of pipelines in one fresh interpreter: no file is written, no process is started."""
    modules = [
        name
        for name in SOURCES
        if is_within(name, "pipelines") and not name.endswith("__main__") and name not in LOADS_LIBRARIES
    ]
    program = (
        "import importlib, json, sys\n"
        "import torch.utils.data\n"  # with it comes dill, which opens files to see what they are
        "seen = []\n"
        "def watch(event, arguments):\n"
        "    writes = event == 'open' and isinstance(arguments[1], str) and set(arguments[1]) & set('wax+')\n"
        "    if writes or event in ('subprocess.Popen', 'socket.connect', 'os.mkdir', 'os.remove', 'os.rename'):\n"
        "        seen.append([event, str(arguments[0])])\n"
        "sys.addaudithook(watch)\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print(json.dumps(seen))\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error::DeprecationWarning:pipelines", "-c", program, json.dumps(modules)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "module",
    [
        *("pipelines.index", "pipelines.ingest", "pipelines.readers", "pipelines.tracking"),
        *("pipelines.cli.app", "pipelines.cli.ingest", "pipelines.cli.mcp"),
    ],
)
def test_importing_is_light(module):
    program = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=180)
    assert set(HEAVY).isdisjoint(done.stdout.split())


def dvc_stages(path: Path) -> dict[str, dict]:
    """The stages by name; of those for each model, what each of them does."""
    stages = yaml.safe_load(path.read_text("utf-8"))["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


def params_of(stage: dict) -> list[str]:
    """Its parameters; of a stage for each language model, those of both kinds."""
    kinds = get_args(LanguageModel.model_fields["kind"].annotation)
    return [key.replace("${item.kind}", kind) for key in stage["params"] for kind in kinds]


def code_of(stage: dict) -> list[str]:
    return [dep for dep in stage.get("deps", []) if dep.startswith("pipelines/")]


def needed_by(module: str, *, never: set[tuple[str, str]]) -> set[str]:
    """The modules that running `module` can import: itself, what it names, and the packages above those.

    `never`: imports inside functions, as (module, imported), that it does not come to.
    """
    needed: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name in needed:
            continue
        needed.add(name)
        todo += [found for found in first_party(name) if (name, found) not in never]
        package = name.rpartition(".")[0]
        if package and package != "pipelines":
            todo.append(package)
    return needed


@pytest.mark.parametrize("name", dvc_stages(PROJECT / "dvc.yaml"))
def test_the_deps_of_a_stage_are_its_imports(name):
    """DVC does not follow imports: what is missing here would leave a stage "up to date" after a change of its code."""
    stage = dvc_stages(PROJECT / "dvc.yaml")[name]
    _, _, module, *_ = stage["cmd"].split()
    never = ALLOWED_BETWEEN_STAGES if name not in ENCODES else set()
    needed = {
        SOURCES[each].relative_to(PROJECT)
        for each in needed_by(f"{module}.__main__", never=never)
        if SOURCES[each].read_text("utf-8").strip() and each != "pipelines"
    }
    deps = [Path(dep) for dep in code_of(stage)]
    missing = {str(path) for path in needed if not any(path.is_relative_to(dep) for dep in deps)}
    superfluous = {str(dep) for dep in deps if not any(path.is_relative_to(dep) for path in needed)}
    assert (missing, superfluous) == (set(), set())


def test_the_template_is_dvc_yaml_without_the_code():
    ours, template = (dvc_stages(PROJECT / path) for path in ("dvc.yaml", "pipelines/cli/template/dvc.yaml"))
    for stage in ours.values():
        rest = [dep for dep in stage.get("deps", []) if dep not in code_of(stage)]
        stage.pop("deps", None)
        if rest:
            stage["deps"] = rest
    assert ours == template


def test_every_tracked_parameter_section_is_in_the_parameter_files():
    """DVC refuses to commit or run a stage whose parameter is not in the file, whatever the program's defaults are."""
    for home in (PROJECT, PROJECT / "pipelines" / "cli" / "template"):
        params = yaml.safe_load((home / "params.yaml").read_text("utf-8"))
        for stage in dvc_stages(home / "dvc.yaml").values():
            for key in params_of(stage):
                section, _, field = key.partition(".")
                assert section in params, (home, key)
                assert not field or field in params[section], (home, key)


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_is_short(module):
    assert len(SOURCES[module].read_text("utf-8").splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_swallows_what_it_does_not_know(module):
    """A broad `except` may only turn what it caught into a typed error; at `__main__` it may become an exit code."""
    for node in ast.walk(syntax(module)):
        if isinstance(node, ast.ExceptHandler) and not module.endswith("__main__"):
            caught = ast.unparse(node.type) if node.type else "BaseException"
            known = caught not in ("Exception", "BaseException")
            assert known or isinstance(node.body[-1], ast.Raise), f"{module}:{node.lineno} swallows {caught}"
        if isinstance(node, ast.Call) and ast.unparse(node) in ("suppress(Exception)", "suppress(BaseException)"):
            assert module in MAY_SUPPRESS, f"{module}:{node.lineno} swallows everything"
