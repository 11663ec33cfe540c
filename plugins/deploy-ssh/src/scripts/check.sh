# Runs the check of the user in the release. Arguments: its command.
cd "$root/current"
exec "$@" < /dev/null
