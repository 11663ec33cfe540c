# Makes the release the serving one, and removes those beyond the ones to keep. Argument: how many to keep beside it.
keep=$1
lock
read_state
refuse_stale
require_own
if is_own "$candidate"; then
    serving=$candidate candidate=''
    write_state
fi
touch "$own/made/$release"
kept=0
# The newest first. The names are those of releases, which consist of hexadecimal digits.
for name in $(ls -1t "$own/made"); do
    [ "$name" != "$release" ] || continue
    [ "$name" != "$(current)" ] || continue
    kept=$((kept + 1))
    [ "$kept" -le "$keep" ] || remove_release "$name"
done
