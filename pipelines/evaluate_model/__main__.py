"""python -m pipelines.evaluate_model --model NAME --workspace DIR [--set section.key=value]"""

import sys

from pipelines.evaluate_model import run
from pipelines.model_stage import main

if __name__ == "__main__":
    sys.exit(main("evaluate_model", run, does="Measure a fine-tuned model beside the one in use."))
