"""The `snapdex` command: parse arguments, call one function, print its result."""
