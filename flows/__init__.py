"""Prefect flows: thin wrappers that decide when the functions of `pipelines` run, and what is tried again.

ingest.py  evaluate.py  maintain.py  finetune.py  usage.py  rollback.py  notice.py    one flow each
scale.py       stages over processes and clusters          reporting.py    names, artifacts, events
retries.py     functions as tasks                          chart.py        a metric over versions
events.py      what happened, in the log of the run        automations.py  what the server does by itself
deploy.py      deployments, from params.yaml
"""

from pipelines.silence import be_silent

be_silent()  # here, because Prefect reads on import whether it may tell its makers
