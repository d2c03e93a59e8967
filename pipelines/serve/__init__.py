"""serve: an index over HTTP, for readers: search, versions, what differs between two, and a page to try it.

    server.py   the process: its socket, its end        guard.py    who may ask, how often, and how much
    app.py      the application, put together           access.py   tokens, addresses, token buckets
    routes.py   the endpoints                           problems.py errors as answers
    shapes.py   what is sent and answered               pulse.py    whether there is something to serve
    measures.py figures for Prometheus                  page.py     the page and its policy

A request runs in a thread with a reader of its own, from a pool that is as large (`pipelines.readers`). The connections
have the rights of readers only. Another endpoint is a router beside `routes.py`, in the tuple of `app.py`: it gets its
readers, its errors, its token and its figures from there.
"""
