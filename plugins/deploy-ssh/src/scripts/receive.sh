# Makes the release of what arrives as input, and puts it beside the others once it is whole. Arguments: the content's digest;
# `archive`, or the name of the file that it becomes; the text of the variables' file; the secrets' file, or nothing; and the
# shared folders.
digest=$1 name=$2 variables=$3 secrets=$4
shift 4
partial=$root/releases/.partial-$run
rm -rf "$partial"
trap 'rm -rf "$partial"' EXIT
mkdir -p "$partial/release"
cat > "$partial/content"
sum=$(sha256sum "$partial/content")
if [ "sha256:${sum%% *}" != "$digest" ]; then
    echo "sha256:${sum%% *}"
    exit 12
fi
if [ "$name" = archive ]; then
    tar -x -o -f "$partial/content" -C "$partial/release"
else
    mv "$partial/content" "$partial/release/$name"
    chmod 755 "$partial/release/$name"
fi
printf '%s' "$variables" > "$partial/release/variables.env"
if [ -n "$secrets" ]; then
    ln -sfn "$secrets" "$partial/release/secrets.env"
fi
for folder; do
    mkdir -p "$root/shared/$folder"
    place=$partial/release/$folder
    if [ -e "$place" ] || [ -L "$place" ]; then
        rmdir "$place" 2> /dev/null || { echo "the release has files at \`$folder\`, which is shared" >&2; exit 1; }
    fi
    mkdir -p "$(dirname "$place")"
    ln -s "$root/shared/$folder" "$place"
done
lock
read_state
refuse_stale
require_own
if [ ! -d "$root/releases/$release" ]; then
    mv "$partial/release" "$root/releases/$release"
    printf '%s\n' "$run" > "$own/made/$release"
fi
