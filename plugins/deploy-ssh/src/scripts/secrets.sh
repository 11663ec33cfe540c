# Writes the secrets' file from the input, whose last line is `# end`. Argument: its path.
umask 077
mkdir -p "$(dirname "$1")"
cat > "$1.new"
if [ "$(tail -n 1 "$1.new")" != '# end' ]; then
    rm -f "$1.new"
    exit 12
fi
lock
read_state
refuse_stale
require_own
if [ "$running" = "$release" ] && [ "$(sha256sum < "$1.new")" != "$({ cat "$1" || true; } 2>/dev/null | sha256sum)" ]; then
    # The service runs with other values, until it is started again.
    running=''
    write_state
fi
mv -f "$1.new" "$1"
printf '%s\n' "$1" > "$own/secrets/$release"
