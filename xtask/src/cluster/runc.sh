#!/bin/sh
# Runs runc, with a container's OOM score raised to 0 if it is negative: the kubelet lowers that of a pod's first container,
# which containers, virtual machines and CI systems often don't permit. dockerd uses this as its runtime.
bundle=
previous=
for word; do
    case $previous in -b | --bundle) bundle=$word ;; esac
    previous=$word
done
if [ -n "$bundle" ]; then
    sed -i 's/"oomScoreAdj": *-[0-9]*/"oomScoreAdj":0/' "$bundle/config.json"
fi
exec runc "$@"
