# Prints what the host has. Arguments: the command that prints the state of the service, if there is one.
[ -d "$own" ] || exit 0
# A command of an interrupted deploy may still run here.
lock -s
[ ! -f "$state" ] || cat "$state"
printf 'current %s\n' "$(current)"
[ ! -d "$root/releases/$release" ] || echo complete
if [ "$#" -gt 0 ]; then
    printf 'unit %s\n' "$("$@" 2> /dev/null 9>&- || :)"
fi
