# shellcheck shell=sh
# shellcheck disable=SC2154 # The folder $private is named in front.
#
# Joins the pipe in the folder $private that the keeper of another session has made: this shell
# keeps it alive too, and its answers leave by that session as well. That session may be lost at
# any time.

exec 9>"$private/life" || exit 1
exec 7>"$private/out" || exit 1
# A write to a FIFO that nobody reads any more is an error, and no end of the dialogue.
trap "" PIPE
# Used by dialogue.sh.
# shellcheck disable=SC2034
joined=1
