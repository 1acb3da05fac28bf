# shellcheck shell=sh
# shellcheck disable=SC2154 # Set in the small files that recall reads, and in engine.sh.
# shellcheck disable=SC2086 # Lines are split into words on purpose.
#
# The last part of the text whose head is in engine.sh: what the command reads, and the orders of
# the client; then what is to be done.

enter() {
    stty raw -echo || exit 1
    exec 4<>"$d/bell" 6<>"$d/feed"
    turn=$1
    stored=0
    recall in.stored
    echo "up=\"$turn $stored $(is_exact)\"" >"$d/up"
    ring
    # What comes by a terminal is repaired until it is there: no need to linger.
    [ $# = 1 ] || sh "$d/engine" attach "$d" "$@" 0 </dev/null 4>&- 6>&- &
    while IFS= read -r line; do
        set -- $line
        case "$1" in
        # Orders follow one another at once, and the head of busybox would read into the next one.
        put) dd bs=1 count="$3" >"$d/$2" 2>/dev/null || exit 1 ;;
        run)
            shift
            # An enter whose session was lost may have asked for it too.
            sh "$d/engine" launch "$d" "$@" 4>&- 6>&-
            ;;
        in)
            take "$2" "in.$((stored + 1))" || exit 1
            stored=$((stored + 1))
            echo "stored=$stored" >"$d/in.stored"
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

# Whether head reads no further than it is told, so that more may follow at once.
is_exact() {
    [ "$(printf abcd | {
        head -c 2 >/dev/null
        cat
    })" = cd ] && echo exact
}

# take LENGTH NAME: so much of the terminal into a file. A terminal that is hung up gives less.
take() {
    head -c "$1" >"$d/$2" && [ "$(wc -c <"$d/$2")" -eq "$1" ]
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
        cat "$d/in.$frame" >&5 2>/dev/null || {
            : >"$d/in.closed"
            ring
            return
        }
        rm -f "$d/in.$frame"
        echo "handed=$frame" >"$d/in.done"
        ring
        frame=$((frame + 1))
    done
}

case "$role" in
launch | supervise | attach | enter) "$role" "$@" ;;
keep)
    # shellcheck disable=SC2034 # Read in engine.sh.
    patience=$1
    echo "$$" >"$d/keeper"
    keep
    ;;
command) become_command ;;
known) acknowledge ;;
signal) signal_command "$1" ;;
end) end_all ;;
esac
