"""Prefect flows: thin wrappers that decide when the stages of `pipelines` run, and what is tried again."""
