"""python -m pipelines.tune --model NAME --kind sft|dpo --workspace DIR [--set section.key=value]"""

import sys

from pipelines import tune
from pipelines.model_stage import main

if __name__ == "__main__":
    sys.exit(main("tune", tune.run, does="Fine-tune a language model on its examples.", kinds=("sft", "dpo")))
