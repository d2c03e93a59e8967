"""Snapdex: versioned retrieval indexes in Postgres/pgvector. This page is the map.

    sources --collect--> documents --parse--> elements --chunk--> chunks --embed--> embeddings     (data/)
                                                                                        |
                                               readers <-- search <-- publish <-- gate <-- build   (Postgres)

Every stage is a package with `run(config, workspace, ...) -> Report`: plain Python, no Prefect, no DVC. Stages do not
import each other; they meet through manifests. `ingest.py` runs them in order for the command line, `flows/` wraps the
same functions for a schedule, `dvc.yaml` calls them as `python -m pipelines.<stage>`.

    model.py       the vocabulary as types, and what identity means      errors.py    what can go wrong, with exit codes
    config.py      params.yaml, typed                                    files.py     segments, manifests, the workspace
    manifests.py   the rows of each stage's manifest                     media.py     what kind of file this is
    models/        which model, without loading it                       changes.py   what differs between two versions
    collect/ parse/ chunk/ embed/      documents to vectors, each keyed by content and insert-only
    index/         Postgres: schema, build and seal, publish and roll back, search, history
    evaluate/      retrieval quality on a golden set, and the gate       cli/         the `snapdex` command
    ask/           answers with citations, by a model or in quotations; evaluate_answers/ scores them
    quality.py     what a version is worth: its search, scored           readers.py   open readers for threads

Fine-tuning, which begins and ends with the index:

    version + judgements --pairs--> data/pairs --finetune--> data/models --evaluate_model--> candidate, or champion
    chats or preferences --examples--> data/examples --tune--> data/models --evaluate_behaviour--> the same

    training.py    runs either in order                jobs.py        which stages a kind of model has
    pairs/ finetune/ evaluate_model/                   of embedding models
    examples/ tune/ evaluate_behaviour/                of language models; generate/ lets them write
    model_stage.py their command line                  tracking/      runs and models in MLflow, by way of a journal
    compare/       prompt only, few-shot, retrieval, fine-tuned, both: measured side by side, before any of it is built

Beside the main job:

    mcp/ langchain.py llamaindex.py            doors for other programs that search
    doors.py       errors in the words of who asks there
    generate/      language models, which write contexts of chunks and questions
    record/        a version into DVC and git          restore.py    and back, into any database
    recorded.py    what git keeps of earlier states    verify.py     rows against ids and files
    prune.py       give back what nothing needs        erase/        one document, everywhere
    failpoints.py  where tests end the process         erased.py     what must not come back
    operate.py     forget, roll back, note a run, each in one call
    logs.py        what happened, as JSON              markdown.py    what tables of ours may hold
    silence.py     nothing phones home
    serve/         `snapdex serve`: searches over HTTP
    services/      `snapdex up`: the servers and the worker of one machine, kept running
"""
