# shellcheck shell=sh
# shellcheck disable=SC2154 # keeper.sh has made the folder $private.
#
# The script of the session that carries the answers of a dialogue, see join.sh.

printf "!folder %s\n" "$private" >&6
cat "$private/out" >&6
