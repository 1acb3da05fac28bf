# shellcheck shell=sh
# shellcheck disable=SC2154 # keeper.sh has made the folder $private.
#
# Runs a script with the FIFO of its pipe as its input, and names its process to the keeper. It is
# the script of down.sh; the line SCRIPT becomes the script that is run.
#
# No single quote may stand here: the text travels between a pair of them.

# Holds the FIFO open until a line says that all is there: when the session that feeds it is lost,
# the script waits, and is ended, in place of reading an end that is none.
hold_input() {
    exec 3>&- 5>&- 6>&- </dev/null >/dev/null 2>&1 8>"$private/in"
    read -r _ <"$private/eof"
}

printf "!folder %s\n" "$private" >&6
hold_input &
holder=$!
(
    # $$ is the outer shell's number here, and POSIX has no name for the inner one's: a child asks
    # for its parent's.
    sh -c "echo \$PPID" >"$private/process"
    # Waits until the session that feeds it is there.
    exec <"$private/in" || exit 1
SCRIPT
)
status=$?
rm -f "$private/process"
kill "$holder" 2>/dev/null
(exit "$status")
