"""python -m pipelines.evaluate_behaviour --model NAME --kind sft|dpo --workspace DIR [--set section.key=value]"""

import sys

from pipelines import evaluate_behaviour
from pipelines.model_stage import main

if __name__ == "__main__":
    sys.exit(
        main(
            "evaluate_behaviour",
            evaluate_behaviour.run,
            does="Judge a fine-tuned language model beside the one in use.",
            kinds=("sft", "dpo"),
        )
    )
