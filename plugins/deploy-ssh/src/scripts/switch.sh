# Leads the link to the release and starts the service with it, in one step with the check of the token. Arguments: the command
# that starts it.
lock
read_state
refuse_stale
require_own
[ -d "$root/releases/$release" ] || { echo "$root/releases/$release is missing" >&2; exit 1; }
running=''
write_state
link "$release"
act "$@"
running=$release
write_state
