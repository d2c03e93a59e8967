"""Everything that a schedule needs on one machine: Postgres, the Prefect server, MLflow, and a worker, supervised.

    programs.py      what is started, and how           supervisor.py   start, probe, restart, stop in order
    control.py       up, down, status from outside      state.py        the file and the lock between the two
    ports.py         where servers listen               processes.py    find and end what was started
    deployments.py   schedules, made known to Prefect   tether.py, sentinel.py   nothing outlives the supervisor

Prefect and MLflow are programs that are started, never modules that are imported.
"""
