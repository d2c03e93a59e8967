"""One module per family of formats; each turns guarded bytes into a `Parsed` and imports its library when called."""
