# shellcheck shell=sh
#
# Runs the lines of $command where nothing can be written: the command ends with its session.
#
# Standard output leaves as base64 by standard output. Error output leaves by error output, in lines
# "!x BASE64" of 3,072 bytes each, which is as long as a line may be; the status is a line there
# too.
#
# No single quote may stand here: the text travels between a pair of them.
#
# shellcheck disable=SC2154 # Set before: command.
# shellcheck disable=SC2317,SC2329 # run_all is called by watched.sh of the pipe, in front.

exec 3>&1 6>&2
if base64 -w0 </dev/null >/dev/null 2>&1; then
    encode="base64 -w0"
elif command -v base64 >/dev/null 2>&1; then
    encode=base64
else
    encode="openssl base64"
fi

# encode_pieces FORMAT BYTES: what one read of standard input gives is a run of its own.
encode_pieces() {
    while piece=$(dd bs="$2" count=1 2>/dev/null | $encode | tr -d "\n") && [ -n "$piece" ]; do
        # shellcheck disable=SC2059
        printf "$1" "$piece" || exit 1
    done
}

# The first who notices that nobody listens any more.
beat() {
    trap "" PIPE
    while sleep 3 >/dev/null 3>&- 6>&-; do
        printf "!beat\n" >&3 || {
            kill "$$"
            exit 0
        }
    done
}

# A process of its own, which is ended with all that it has started when its shell is killed. What a
# shell starts so ignores SIGINT, which nobody sends here: the end of the session is the only way.
run_all() {
    beat </dev/null 2>/dev/null &
    beats=$!
    printf "!running\n" >&3
    # The status goes past both pipes by descriptor 7, and standard output past the one of error
    # output by descriptor 8.
    code=$(
        {
            {
                {
                    {
                        (eval "$command") 3>&- 6>&- 7>&- </dev/null 2>&8 8>&-
                        echo "$?" >&7
                    } | encode_pieces "%s\n" 65536 >&3 7>&- 8>&-
                } 8>&1 | encode_pieces "!x %s\n" 3072 >&6 7>&-
            } 7>&1
        }
    )
    [ "$code" -lt 256 ] || code=$((code - 128))
    kill "$beats" 2>/dev/null
    printf "!over %s\n" "$code" >&6
    printf "\n!over %s\n" "$code" >&3
}
run_watched
