# What all scripts begin with. Values arrive as arguments, and are never a part of a script.
#
# Exit codes: 10 for a newer token, 11 for a host that another deploy has taken, 12 for content that didn't arrive whole,
# 13 for a service that didn't start, 75 for a lock that isn't released.
set -eu
umask 022
root=$1 fence=$2 run=$3 release=$4
shift 4
own=$root/.stagewright
state=$own/state

# Holds the lock until the script ends. Takes the arguments of flock.
lock() {
    command -v flock > /dev/null || { echo "flock isn't installed: it is in the package util-linux" >&2; exit 1; }
    exec 9>> "$own/lock"
    tries=0
    until flock -n "$@" 9; do
        tries=$((tries + 1))
        [ "$tries" -lt 120 ] || { echo "another command has held $own/lock for 2 minutes" >&2; exit 75; }
        sleep 1
    done
}

# Entries are `RELEASE FENCE RUN ARTIFACT`. `running` is the release with which the service was last started.
read_state() {
    newest=0 serving='' candidate='' running=''
    if [ -f "$state" ]; then
        while read -r key value; do
            case $key in
                fence) newest=$value ;;
                serving) serving=$value ;;
                candidate) candidate=$value ;;
                running) running=$value ;;
            esac
        done < "$state"
    fi
    case $newest in
        '' | *[!0-9]*) echo "$state is damaged: its token is \`$newest\`" >&2; exit 1 ;;
    esac
}

write_state() {
    {
        printf 'fence %s\n' "$newest"
        [ -z "$serving" ] || printf 'serving %s\n' "$serving"
        [ -z "$candidate" ] || printf 'candidate %s\n' "$candidate"
        [ -z "$running" ] || printf 'running %s\n' "$running"
    } > "$state.new"
    mv -f "$state.new" "$state"
}

is_stale() {
    [ "$fence" != - ] && [ "$newest" -gt "$fence" ]
}

refuse_stale() {
    if is_stale; then
        echo "$newest"
        exit 10
    fi
}

# Whether an entry is this run's release.
is_own() {
    set -- $1
    [ "${1-}" = "$release" ] && [ "${3-}" = "$run" ]
}

require_own() {
    is_own "$candidate" || is_own "$serving" || exit 11
}

# The release that the link leads to; empty if there is none.
current() {
    target=$(readlink "$root/current" || :)
    printf '%s' "${target##*/}"
}

# Replaces the link in one step.
link() {
    ln -sfn "releases/$1" "$own/current.new"
    mv -fT "$own/current.new" "$root/current"
}

# Runs a command of the user in the release that is current. What it starts in the background gets neither the lock nor the
# connection.
act() {
    [ "$#" -gt 0 ] || return 0
    folder=$root/current
    [ -d "$folder" ] || folder=$root
    if ! (cd "$folder" && exec "$@") < /dev/null > "$own/output" 2>&1 9>&-; then
        tail -n 20 "$own/output" >&2
        exit 13
    fi
}

remove_release() {
    rm -rf "${root:?}/releases/$1"
    if [ -f "$own/secrets/$1" ]; then
        rm -f "$(cat "$own/secrets/$1")" "$own/secrets/$1"
    fi
    rm -f "$own/made/$1"
}
