"""python -m pipelines.pairs --model NAME --workspace DIR [--set section.key=value]"""

import sys

from pipelines.model_stage import main
from pipelines.pairs.stage import run

if __name__ == "__main__":
    sys.exit(main("pairs", run, does="Make the pairs that a model is fine-tuned with."))
