# shellcheck shell=sh
#
# Lists what is at places, and hashes it. Stands behind tools.sh.
#
# Set before: follow (-H, -L or -P, as for find), prune (-prune: nothing below the places), small
# (-size of files to hash, or empty), describe (describe.sh), and the function visit_places, which
# calls visit and visit_matches for each place.
#
# Prints texts, each ended by a NUL, in pairs:
#
#   A PLACE and the absolute path of a place, whether something is there or not
#   R PLACE and a match; what follows lies below it
#   TYPE SIZE MODE TIME PATH and the target of a link
#   x MODE SIZE TIME PATH and the same, of describe.sh
#
# then, where hashes are asked for, "D" alone and "HASH  PATH" for each file.
#
# No single quote may stand here: one pair of them holds it all.
#
# shellcheck disable=SC2154 # Set before, see above.
# shellcheck disable=SC2086 # Options are split into words on purpose; the empty ones vanish.

# Names in places are expanded where that is asked for, and nowhere else.
set -f

# list_match PLACE MATCH
list_match() {
    printf "R%s\000%s\000" "$1" "$2"
    if has printf; then
        find "$follow" "$2" $prune -printf "%y %s %m %T@ %p\000%l\000"
    else
        find "$follow" "$2" $prune -exec sh -c "$describe" "$2" "$follow" {} +
    fi
}

# hash_match PLACE MATCH
hash_match() {
    if has sums; then
        find "$follow" "$2" $prune -type f $small -exec sha256sum -z {} +
    else
        find "$follow" "$2" $prune -type f $small -exec sh -c "$hash_each" "$hash_files" {} +
    fi
}

# For find -exec: sh -c THIS HASH-COMMAND NAME…. What it expands is for the inner shell.
hash_each="for name; do
    printf \"%s  %s\\000\" \"\$(\$0 <\"\$name\" | cut -c1-64)\" \"\$name\"
done"

is_there() { [ -e "$1" ] || [ -h "$1" ]; }

# visit PLACE PATH: lists or hashes what is at a path; fails where nothing is.
visit() {
    [ "$action" = hash_match ] || printf "A%s\000%s\000" "$1" "$2"
    is_there "$2" || return 1
    "$action" "$1" "$2"
    # What find could not look into does not make the place one that is not there.
    return 0
}

# visit_matches PLACE PATH…: what a pattern was expanded to; one without a match is itself.
visit_matches() {
    place=$1
    shift
    for match; do
        ! is_there "$match" || "$action" "$place" "$match"
    done
}

# list_places HASHES: 1 where hashes are asked for.
list_places() {
    action=list_match
    visit_places
    if [ "$1" = 1 ] && [ -n "$hash_files" ]; then
        printf "D\000"
        action=hash_match
        visit_places
    fi
}
