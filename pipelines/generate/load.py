"""From a model that is known to one that writes."""

from pipelines.config import GenerateConfig
from pipelines.generate.chat import LanguageModel
from pipelines.models import Generator


def load_generator(model: Generator, config: GenerateConfig, *, patient: bool = True) -> LanguageModel:
    """The model, ready to write; use it as a context. Nothing heavy is imported for a model at an endpoint. `patient`:
    whether a server that does not answer is asked again for minutes; a person who waits is told soon.

    Raises `ConfigError` where it cannot be loaded: an adapter without PEFT, OpenAI without a key.
    """
    if model.kind == "endpoint":
        from pipelines.generate.endpoint import EndpointModel

        return EndpointModel(model, config, patient=patient)
    from pipelines.generate.local import LocalModel

    return LocalModel(model, config)
