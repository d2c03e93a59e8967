"""python -m pipelines.finetune --model NAME --workspace DIR [--set section.key=value]"""

import sys

from pipelines.finetune import run
from pipelines.model_stage import main

if __name__ == "__main__":
    sys.exit(main("finetune", run, does="Fine-tune an embedding model on its pairs."))
