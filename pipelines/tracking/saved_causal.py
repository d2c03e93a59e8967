"""A language model as MLflow keeps it, without loading it: MLflow's own way would ask the model hub for a licence."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipelines.models.folder import ADAPTER, adapter_files, check_adapter, check_causal, read_json, writing_files
from pipelines.models.hosted import HOSTED, read_hosted

INNER, TOKENIZER = "model", "components/tokenizer"


def save_causal(directory: Path, target: Path, requirements: Sequence[str]) -> None:
    """Make `target`: an MLflow model with the flavours `transformers` and `python_function`, its files byte for byte.

    An adapter has the flavour `peft` alone, which names its base: MLflow cannot open what is not there.

    Raises `InputError` for a directory that Snapdex would refuse to open.
    """
    import transformers
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.utils.environment import _mlflow_conda_env, _PythonEnv

    is_adapter = (directory / ADAPTER).is_file()
    (check_adapter if is_adapter else check_causal)(directory)
    names = adapter_files(directory) if is_adapter else writing_files(directory)
    _copy(directory, names, target / INNER)
    text = Schema([ColSpec(DataType.string)])
    model = Model(signature=ModelSignature(inputs=text, outputs=text))
    if is_adapter:
        model.add_flavor("peft", base=read_json(directory, ADAPTER)["base_model_name_or_path"], model_binary=INNER)
    else:
        _copy(
            directory, [name for name in names if name.endswith(".json") and name != "config.json"], target / TOKENIZER
        )
        model.add_flavor(
            "transformers",
            transformers_version=transformers.__version__,
            code=None,
            task="text-generation",
            instance_type="TextGenerationPipeline",
            pipeline_model_type=read_json(directory, "config.json")["architectures"][0],
            source_model_name=directory.name,
            model_binary=INNER,
            components=["tokenizer"],
            tokenizer_type="AutoTokenizer",
            torch_dtype="torch.float32",
        )
        pyfunc.add_to_model(
            model, loader_module="mlflow.transformers", conda_env="conda.yaml", python_env="python_env.yaml"
        )
    model.save(str(target / "MLmodel"))
    (target / "requirements.txt").write_text("\n".join(requirements) + "\n", "utf-8")
    _mlflow_conda_env(path=str(target / "conda.yaml"), additional_pip_deps=list(requirements))
    _PythonEnv.current().to_yaml(str(target / "python_env.yaml"))


def save_hosted(directory: Path, target: Path) -> None:
    """Make `target`: an MLflow model with a flavour of our own, which says what a server calls the model.

    Raises `InputError` for a directory that does not say so.
    """
    from mlflow.models import Model

    found = read_hosted(directory)
    _copy(directory, [HOSTED], target / INNER)
    model = Model()
    model.add_flavor("snapdex", model=found.model, endpoint=found.endpoint, model_binary=INNER)
    model.save(str(target / "MLmodel"))


def _copy(directory: Path, names: Sequence[str], target: Path) -> None:
    for name in names:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(directory / name, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
