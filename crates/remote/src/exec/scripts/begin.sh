# shellcheck shell=sh
# shellcheck disable=SC3067 # test -O is no part of POSIX, and in every shell that may be sh.
#
# Makes the private folder $d of a run, in the first place that takes it, or finds it where another
# session has made it. Leaves $d empty where nothing can be written.
#
# Set before: name, the folder's own name; turn, the number of this session among those of its run;
# brings_engine, 1 if start.sh stands before this; reads_input, 1 if the command has input.
#
# No single quote may stand here: the text travels between a pair of them.
#
# shellcheck disable=SC2154 # Set before, see above.

# The client has given up already. This trap holds until attach, which this shell becomes, sets its
# own, so that there is no moment in which the signal would leave something behind.
abandon() {
    # The signal may have come while the folder was being made.
    [ -n "$d" ] || each_parent is_there
    if [ -n "$d" ]; then
        [ ! -e "$d/engine" ] || sh "$d/engine" end "$d"
        rm -rf "$d"
    fi
    printf "\n!ended\n"
    exit 1
} 2>/dev/null

each_parent() {
    for parent in "${TMPDIR:-/tmp}" /tmp /var/tmp /dev/shm "$HOME"; do "$1" && return; done
}

# A folder of that name that is somebody else's is not looked into, nor one behind a link.
is_there() {
    if [ -d "$parent/$name" ] && [ ! -h "$parent/$name" ] && [ -O "$parent/$name" ]; then
        d=$parent/$name
    else
        return 1
    fi
}

# The run has ended: a session before this one or behind it was faster.
is_over() { [ -e "$parent/$name.gone" ]; }

# A disk that is full lets a folder be made, and nothing in it.
make_folder() {
    mkdir -m 700 "$parent/$name" 2>/dev/null || {
        # Another session of this run may have made it in this moment.
        is_there && complete_folder
        return
    }
    d=$parent/$name
    # Looked at once the name is taken, so that the run does not end between the two.
    if each_parent is_over; then
        rmdir "$d"
        printf "!gone\n"
        exit 1
    fi
    fill_folder && return
    rm -rf "$d"
    return 1
}

complete_folder() { [ -p "$d/life" ] || fill_folder; }

# fill_folder: another session of this run may be about the same.
fill_folder() {
    [ "$brings_engine" = 0 ] || put engine || return
    # In this order: life says that all is there.
    set -- "$d/out" "$d/err" "$d/bell" "$d/life"
    [ "$reads_input" = 0 ] || set -- "$d/in" "$d/feed" "$@"
    mkfifo -m 600 "$@" || [ -p "$d/life" ]
} 2>/dev/null

d=
trap abandon QUIT
cd "$HOME" 2>/dev/null || cd / || exit 1
# The text that brings the engine writes its umask into it, and needs no process for that.
# shellcheck disable=SC2034 # Written by the text that follows.
[ "$brings_engine" = 1 ] || mask=$(umask)
if each_parent is_there; then
    complete_folder || d=
else
    each_parent make_folder || d=
fi
umask 077
[ "$turn" = 1 ] || [ -z "$d" ] || echo >"$d/again"
