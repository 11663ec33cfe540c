# Takes the host for this run, if no deploy with a newer token has. Argument: the artifact.
mkdir -p "$own/made" "$own/secrets" "$root/releases"
lock
read_state
refuse_stale
[ "$fence" = - ] || newest=$fence
candidate="$release $fence $run $1"
write_state
