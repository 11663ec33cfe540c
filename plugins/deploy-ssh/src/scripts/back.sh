# Gives the host its serving release back, if this run has switched it. Arguments: `leave`, or `remove` to give the host up and
# remove the release; and the command that starts the service again, or stops it if no release was serving.
what=$1
shift
[ -d "$own" ] || exit 0
lock
read_state
if is_stale || ! is_own "$candidate"; then
    exit 0
fi
before=${serving%% *}
if [ "$before" != "$release" ] && { [ "$(current)" = "$release" ] || [ "$running" != "$before" ]; }; then
    running=''
    write_state
    if [ -n "$before" ]; then
        link "$before"
        act "$@"
    else
        act "$@"
        rm -f "$root/current"
    fi
    running=$before
fi
if [ "$what" = remove ]; then
    candidate=''
fi
write_state
if [ "$what" = remove ] && [ "$before" != "$release" ] && [ "$(cat "$own/made/$release" 2> /dev/null || :)" = "$run" ]; then
    remove_release "$release"
fi
