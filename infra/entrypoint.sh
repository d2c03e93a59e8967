#!/bin/sh
# NAME_FILE=/run/secrets/... becomes NAME=content: secrets stand in files, programs read the environment.
set -eu
for name in $(env | sed -n 's#^\([A-Z0-9_]*\)_FILE=/run/secrets/.*#\1#p'); do
    eval "file=\${${name}_FILE}"
    value=$(cat "$file")
    export "$name=$value"
done
exec "$@"
