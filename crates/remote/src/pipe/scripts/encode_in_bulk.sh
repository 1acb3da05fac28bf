# shellcheck shell=sh
# shellcheck disable=SC2154 # down.sh has set $encoder.
#
# Makes text of output a whole buffer at a time: nothing is faster, and what fills no buffer waits
# until the script ends. For down.sh.

encode() {
    # Split into words on purpose.
    $encoder
}
