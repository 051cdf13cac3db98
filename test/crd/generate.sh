#!/bin/sh
# Writes the deep copies of the Kubernetes types and their CRDs.
#   generate.sh ROOT    ROOT: a directory with the layout of the repository; the repository's own for make generate
set -eu
root=$(cd "$1" && pwd)
cd "$(dirname "$0")"
module=github.com/skerry-edge/skerry
for types in api/v1 api/edge/v1alpha1; do
	mkdir -p "$root/$types" "$root/install/kube/crd"
	go tool controller-gen paths="$module/$types" object crd:allowDangerousTypes=true \
		output:object:dir="$root/$types" output:crd:dir="$root/install/kube/crd"
done
