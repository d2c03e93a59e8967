"""python -m pipelines.examples --model NAME --kind sft|dpo --workspace DIR [--set section.key=value]"""

import sys

from pipelines.examples import stage
from pipelines.model_stage import main

if __name__ == "__main__":
    sys.exit(
        main(
            "examples",
            stage.run,
            does="Check and divide the examples that a language model is fine-tuned with.",
            kinds=("sft", "dpo"),
        )
    )
