# shellcheck shell=sh
#
# What a session that brings the engine and starts the command needs beside begin.sh. A terminal by
# which both travel does without: where it is needed a parameter may have to be short.
#
# The text of engine.sh and what belongs to it, as it has to be between double quotes, stands where
# ENGINE does here.
#
# No single quote may stand here: the text travels between a pair of them.
#
# shellcheck disable=SC2154 # Set before: turn; and by begin.sh: d.

# put NAME: writes what write_NAME gives into the file NAME. Of several sessions that do so each
# either finds a file that is whole or makes one: the first writes none over, and the others move
# theirs there. The first is almost always alone, and mv is one process more.
put() {
    if [ "$turn" != 1 ]; then
        "write_$1" >"$d/$1.$turn" && mv "$d/$1.$turn" "$d/$1"
        return
    fi
    # Does not write over a file.
    set -C
    "write_$1" >"$d/$1"
    set +C
    [ -s "$d/$1" ]
} 2>/dev/null

# launch PATIENCE LIMIT INPUT: as launch of engine.sh, which knows more ways, with fewer processes.
launch() {
    # Whether perl can be run shows when it has claimed the command; see is_born of output.sh.
    # shellcheck disable=SC2034
    launched="$*"
    if [ "$3" != detach ] && command -v perl; then
        setsid -f perl -x "$d/engine" "$d" "$@"
    else
        setsid -f sh "$d/engine" supervise "$d" "$@"
    fi || sh "$d/engine" launch "$d" "$@"
} </dev/null >/dev/null 2>&1

# By a builtin in most shells: a here-document would be a process that writes it and one that reads.
write_engine() {
    printf "mask="
    umask
    printf "%s" "
ENGINE
"
}
