"""What Snapdex costs and how well it finds, measured on the machine at hand.

    python -m benchmarks [NAME...] [--data DIR] [--quick] [--keep DIR]

    cold      2,000 documents of 10 chunks: from nothing, again, and after an edit
    encode    real documentation with the default model: the whole run against its encoding alone
    noop      the command `snapdex run` when nothing changed
    pointer   publish and rollback on 10^3 to 10^5 chunks, alone and under eight readers
    serve     searches over HTTP at 1, 8 and 32 connections, with vectors given and with queries encoded
    scifact   retrieval quality on BEIR SciFact: dense, lexical, hybrid
    gate      how often the gate is right about spoiled versions and harmless edits, on SciFact
    recall    10^5 chunks in ten versions: recall, latency, exactness of BM25, drift

Each prints one table and appends one line to `benchmarks/results.jsonl`. Every measurement makes its own workspaces
with their own embedded servers, in the temporary directory; `SNAPDEX_DATABASE_URL` is not used. Absolute times belong
to one machine and its load: compare ratios, which are taken side by side in one run.

`report.py` is how a result looks, `workspaces.py` where it is made, `corpora.py` and `synthetic.py` what from.
"""
