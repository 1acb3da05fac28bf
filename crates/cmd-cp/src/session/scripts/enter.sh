# shellcheck shell=sh
#
# Going to a folder on the server without following what lies below what the user named.
#
# Stands in front of every script that touches files by name. What is named afterwards is named
# relative to the current folder, which stays what it is even when somebody renames or replaces
# the folders above it: the nearest thing to openat() that sh has.
#
# No single quote may stand here: some of the scripts travel inside of a pair of them.
#
# shellcheck disable=SC2034 # What $why says is for the caller.

# enter ROOT FOLDERS: makes FOLDERS, which may be empty, below ROOT the current folder.
#
# ROOT is what the user named: links in it are followed. FOLDERS came with a list, of this copy or
# of another server: a link among them is refused. Says in $why what is wrong.
enter() {
    why="$1 is not there"
    [ -e "$1" ] || return 1
    why="$1 is no folder"
    [ -d "$1" ] || return 1
    why="$1 cannot be entered"
    cd -P "$1" 2>/dev/null || return 1
    rest=$2
    while [ -n "$rest" ]; do
        part=${rest%%/*}
        case "$rest" in
        */*) rest=${rest#*/} ;;
        *) rest= ;;
        esac
        # After cd -P, PWD is what pwd -P prints, without the process that asking would take; where
        # a shell cannot find it out, PWD is empty, which differs too.
        inside=${PWD%/}/$part
        why="$inside is a link on the server, which is not followed"
        [ ! -h "./$part" ] || return 1
        why="$inside is not there"
        [ -e "./$part" ] || return 1
        why="$inside is no folder"
        [ -d "./$part" ] || return 1
        # "./" keeps names that begin with a dash, and CDPATH, from meaning something.
        why="$inside cannot be entered"
        cd -P "./$part" 2>/dev/null || return 1
        # A link that took the place of the folder after the look at it has led elsewhere.
        why="$inside was replaced by a link while it was used"
        [ "$PWD" = "$inside" ] || return 1
    done
}
