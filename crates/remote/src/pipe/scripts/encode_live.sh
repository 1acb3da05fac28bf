# shellcheck shell=sh
# shellcheck disable=SC2154 # down.sh has set $encoder.
#
# Makes text of output as it comes: what one read of the pipe gives is a run of its own. That is two
# processes for each, which costs when much comes. For down.sh.

encode() {
    while
        run=$(dd bs=65536 count=1 2>/dev/null | $encoder)
        [ -n "$run" ]
    do
        printf "%s\n" "$run" || exit 1
    done
}
