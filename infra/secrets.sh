#!/bin/sh
# Draws the secrets that infra/compose.yaml and infra/kubernetes/ need, one file each, in infra/secrets/ or the directory
# given. What is there stays. The files are readable inside the containers, whose users are not yours; the directory is
# closed to everybody else. No line ends in them: Kubernetes would make it part of the password.
set -eu
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
chmod 700 "$directory"
draw() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
keep() {
    [ -s "$directory/$1" ] && return
    printf %s "$2" >"$directory/$1"
    chmod 444 "$directory/$1"
    echo "$directory/$1"
}
for name in postgres snapdex prefect mlflow monitor serve; do
    keep "${name}_password" "$(draw)"
done
keep serve_token "$(draw)"
keep prefect_auth "snapdex:$(draw)"
keep minio_user snapdex
keep minio_password "$(draw)"
