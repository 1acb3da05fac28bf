# shellcheck shell=sh
# shellcheck disable=SC2154 # Set in the small files that recall reads, and in engine.sh.
# shellcheck disable=SC2086 # Lines are split into words on purpose.
#
# The last part of the text whose head is in engine.sh: what the command reads, and the orders of
# the client; then what is to be done.

enter() {
    stty raw -echo || exit 1
    # Where the command reads no input there is no feeder, and "feed" is a file like others.
    exec 4<>"$d/bell" 6<>"$d/feed"
    turn=$1
    stored=0
    recall in.stored
    note up "up=$turn ahead=$stored head=$(is_exact)"
    # An enter that was killed may have stored a frame, and then not said so.
    echo >&6
    ring
    # What comes by a terminal is repaired until it is there: no need to linger.
    [ $# = 1 ] || sh "$d/engine" attach "$d" "$@" 0 </dev/null 4>&- 6>&- &
    line=
    taken=0
    while [ -n "$line" ] || IFS= read -r line; do
        set -- $line
        line=
        case "$1" in
        # Orders follow one another at once, and the head of busybox would read into the next one.
        put) dd bs=1 count="$3" >"$d/$2" 2>/dev/null || exit 1 ;;
        run)
            shift
            # An enter whose session was lost may have asked for it too.
            sh "$d/engine" launch "$d" "$@" 4>&- 6>&-
            ;;
        in)
            # Asked once: where there is no perl, the third frame does not look for it.
            if [ "$taken" = 1 ] && has_perl; then
                # Takes this frame and those that follow, and gives the next line that begins none.
                line=$(run_perl "$d" take $((stored + 1)) "$2" "${3:-}") || exit 1
                recall in.stored
                continue
            fi
            taken=$((taken + 1))
            take "$2" "in.$((stored + 1))" "${3:-}" || exit 1
            stored=$((stored + 1))
            note in.stored "stored=$stored"
            echo >&6
            ring
            ;;
        end)
            : >"$d/in.end"
            echo >&6
            ;;
        signal) signal_command "$2" ;;
        known)
            acknowledge
            printf "!ended\n"
            exit 0
            ;;
        stop)
            end_all
            printf "!ended\n"
            exit 0
            ;;
        *) exit 1 ;;
        esac
    done 2>/dev/null
}

# Whether there is perl. From the second frame on one program for all frames is worth its start: a
# head, a cat and an rm are processes for each of them.
has_perl() { perl -e 1; } 2>/dev/null

# run_perl FOLDER ROLE ARGUMENT…: does what input.pl, in place of its mark here, does for that role.
run_perl() {
    # Who has a file of this folder as descriptor 7 is taken for a part of an attach: end_writers.
    perl -e "
INPUT_PL
" "$@" 7</dev/null
}

# Whether head reads no further than it is told, so that more may follow at once.
is_exact() {
    [ "$(printf abcd | {
        head -c 2 >/dev/null
        cat
    })" = cd ] && echo exact
}

# take LENGTH NAME [marked]: so much of the terminal into a file. A terminal that is hung up gives
# less, and then no mark behind it: a full stop on a line of its own. A head that reads ahead would
# take the mark too, and without one it takes a process to find out.
take() {
    head -c "$1" >"$d/$2" || return
    if [ "$3" = marked ]; then
        IFS= read -r mark && [ "$mark" = . ]
    else
        [ "$(wc -c <"$d/$2")" -eq "$1" ]
    fi
}

# The frames, one after another, to the command.
feed() {
    exec 6<>"$d/feed"
    # Waits for the command.
    exec 5>"$d/in"
    frame=1
    stored=0
    while :; do
        # Looked at first: the last frame is stored before the end is told.
        ended=
        [ ! -e "$d/in.end" ] || ended=1
        recall in.stored
        if [ "$stored" -lt "$frame" ]; then
            [ -z "$ended" ] || break
            read -r _ <&6
            continue
        fi
        if [ "$frame" = 2 ] && has_perl; then
            run_perl "$d" hand "$frame" >&5 2>/dev/null || nobody_reads
            return
        fi
        cat "$d/in.$frame" >&5 2>/dev/null || {
            nobody_reads
            return
        }
        # Several by one process.
        [ $((frame % 4)) != 0 ] || rm -f "$d/in.$frame" "$d/in.$((frame - 1))" \
            "$d/in.$((frame - 2))" "$d/in.$((frame - 3))"
        note in.done "handed=$frame"
        ring
        frame=$((frame + 1))
    done
}

nobody_reads() {
    : >"$d/in.closed"
    ring
}

case "$role" in
launch | supervise | attach | enter | end_at_limit) "$role" "$@" ;;
keep)
    # shellcheck disable=SC2034 # Read in engine.sh.
    patience=$1
    printf "%s\n%s\n" "$$" "$patience" >"$d/keeper"
    keep
    ;;
feed)
    exec 4<>"$d/bell"
    feed
    ;;
end_command | end_dead_writers | remove_leftovers) "$role" ;;
remove_all)
    # shellcheck disable=SC2034 # Read in engine.sh.
    pid=
    remove_all
    ;;
known) acknowledge ;;
signal) signal_command "$1" ;;
end) end_all ;;
esac
