# shellcheck shell=sh
#
# Prints the names in the folder $base$rest, for completion: each ended by a NUL, folders and links
# to them with a slash at the end. Set before: base, rest.
#
# No single quote may stand here: one pair of them holds it all.
#
# shellcheck disable=SC2154 # Set before.
cd "$base$rest" || exit 1
count=0
# The second and third pattern are for names that begin with a full stop, but . and ..
for name in * .[!.]* ..?*; do
    if [ -d "./$name" ]; then
        printf "%s/\000" "$name"
    elif [ -e "./$name" ] || [ -h "./$name" ]; then
        printf "%s\000" "$name"
    fi
    count=$((count + 1))
    # More than anybody looks through.
    [ "$count" -lt 5000 ] || break
done
